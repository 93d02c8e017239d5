"""Reports of an evaluation: JSON first, and from that HTML with drawings, Markdown and LaTeX."""

"""Inference without torch: ONNX sessions, recordings cut into pieces, embeddings in batches, decisions."""

from samevoice.runtime.verifier import Embedded, Verification, Verifier, load

__all__ = ["Embedded", "Verification", "Verifier", "load"]

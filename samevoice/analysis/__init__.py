"""The papers' figures and tables: what layers a model uses, what training costs, and rows beside the published ones."""

"""Ways into Holdfast from other frameworks, one for each."""

"""Commands for model directories: manifests, catalogues, variants, checks."""

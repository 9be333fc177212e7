"""Models as clients and nodes see them: manifests, chat templates, tokenizers, what is held on disk."""

"""One file a family; a new one is found here by its ``kind``, the model_type of its config.json."""

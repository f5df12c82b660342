"""Plain data to a pydantic model, or one sentence for each mistake."""

"""Which rows pass and which a person sees, with a promise that holds."""

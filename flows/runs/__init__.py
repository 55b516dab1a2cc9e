"""One run of a visit, from the request to the published folder or the report on its failure."""

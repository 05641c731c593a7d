"""When things happen: durable workflows; the only importer of the durable engine."""

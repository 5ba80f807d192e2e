"""Steps from each version of the tables to the next; `checkpoints.schema` says when they are taken."""

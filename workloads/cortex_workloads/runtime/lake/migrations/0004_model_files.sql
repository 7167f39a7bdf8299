-- The files of the embedding model that a revision was begun with: name -> SHA-256. Empty: a model that the release
-- knows by itself (search/encoders.py).
ALTER TABLE revisions ADD COLUMN model_files jsonb NOT NULL DEFAULT '{}';

-- Files that are alike in two places are two documents: one may change or go without the other. That there is one for each owner,
-- content and place follows from its id.
DROP INDEX idx_documents_content_hash;
CREATE INDEX idx_documents_content_hash ON documents (content_hash, user_id);

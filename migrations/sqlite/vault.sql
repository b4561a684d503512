-- vault.db: secrets, each sealed by the master key and bound to its name.
CREATE TABLE secrets (
    name   TEXT PRIMARY KEY,
    sealed BLOB NOT NULL                   -- nonce (24 bytes), then XChaCha20-Poly1305
) STRICT;

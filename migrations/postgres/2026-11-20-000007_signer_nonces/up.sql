-- The purge walks the table in the order of its pages, so that what lies on one page leaves together,
-- and no claim pays for an index that nothing else needs.
DROP INDEX signer_nonces_expiry;

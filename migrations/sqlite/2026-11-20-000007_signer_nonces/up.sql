-- The purge walks the table in the order of its key, so that the nonces of one signer, which share
-- pages, leave together. In the order of their expiry each would lie on a page of its own, and
-- every claim would pay for an index that nothing else needs.
DROP INDEX signer_nonces_expiry;

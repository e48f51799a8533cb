DROP TABLE signer_nonces;
DROP TABLE signers;
DROP TABLE dids;
DROP FUNCTION dids_stay_revoked();
DROP FUNCTION dids_updated();

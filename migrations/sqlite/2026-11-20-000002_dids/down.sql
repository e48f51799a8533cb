DROP TABLE signer_nonces;
DROP TABLE signers;
DROP TABLE dids;

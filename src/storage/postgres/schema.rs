// @generated automatically by Diesel CLI.

diesel::table! {
    api_tokens (id) {
        id -> Uuid,
        name -> Text,
        hash -> Bytea,
        scopes -> Array<Nullable<Text>>,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
        namespace -> Nullable<Text>,
        max_ttl_seconds -> Nullable<Integer>,
    }
}

diesel::table! {
    dids (did) {
        did -> Text,
        public_key -> Nullable<Bytea>,
        key_type -> Nullable<Text>,
        owner_address -> Nullable<Text>,
        document -> Nullable<Jsonb>,
        revoked -> Bool,
        revoked_at -> Nullable<Timestamptz>,
        source -> Nullable<Text>,
        version -> Nullable<Int8>,
        fetched_at -> Nullable<Timestamptz>,
        stale_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        gone -> Nullable<Text>,
    }
}

diesel::table! {
    event_chain (only_row) {
        only_row -> Bool,
        origin -> Uuid,
        sequence -> Int8,
        hash -> Bytea,
        linked_at -> Nullable<Timestamptz>,
        cut_sequence -> Int8,
        cut_hash -> Bytea,
    }
}

diesel::table! {
    event_heads (sequence) {
        sequence -> Int8,
        hash -> Bytea,
        signed_at -> Timestamptz,
        note -> Text,
    }
}

diesel::table! {
    events (id) {
        id -> Uuid,
        sequence -> Nullable<Int8>,
        #[sql_name = "type"]
        type_ -> Text,
        source -> Text,
        subject -> Nullable<Text>,
        actor -> Nullable<Text>,
        outcome -> Text,
        request_id -> Nullable<Text>,
        at -> Timestamptz,
        data -> Jsonb,
        salt -> Nullable<Bytea>,
        commitment -> Nullable<Bytea>,
        hash -> Nullable<Bytea>,
    }
}

diesel::table! {
    history (only_row) {
        only_row -> Bool,
        purged_until -> Nullable<Timestamptz>,
        generation -> Uuid,
        ancestors -> Array<Nullable<Uuid>>,
        recovered_at -> Nullable<Timestamptz>,
        not_before -> Nullable<Timestamptz>,
        ahead_until -> Nullable<Timestamptz>,
        skew_seconds -> Int4,
        system_identifier -> Nullable<Int8>,
        timeline -> Nullable<Int4>,
        database_oid -> Nullable<Int8>,
        nonces_oid -> Nullable<Int8>,
    }
}

diesel::table! {
    instances (id) {
        id -> Uuid,
        name -> Text,
        host -> Text,
        version -> Text,
        started_at -> Timestamptz,
        heartbeat_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
        state -> Text,
        counter -> Int8,
        issued_until -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    leases (name) {
        name -> Text,
        holder -> Text,
        taken_at -> Timestamptz,
        until -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    marks (id) {
        id -> Uuid,
        instance -> Uuid,
        value -> Int8,
    }
}

diesel::table! {
    nonces (session_id, nonce) {
        session_id -> Uuid,
        nonce -> Text,
        used_at -> Timestamptz,
        expires_at -> Timestamptz,
        idempotency -> Nullable<Bytea>,
    }
}

diesel::table! {
    publications (digest) {
        digest -> Bytea,
        content -> Bytea,
        events -> Array<Uuid>,
        at -> Timestamptz,
    }
}

diesel::table! {
    record_blobs (owner, sequence) {
        owner -> Uuid,
        sequence -> Int8,
        ciphertext -> Bytea,
    }
}

diesel::table! {
    record_owners (id) {
        id -> Uuid,
        did -> Nullable<Text>,
        agent -> Bool,
        sequence -> Int8,
        forgotten -> Int8,
        records -> Int8,
        bytes -> Int8,
        last_accessed -> Timestamptz,
    }
}

diesel::table! {
    record_shares (share) {
        share -> Int4,
        records -> Int8,
        bytes -> Int8,
    }
}

diesel::table! {
    records (owner, kind, id) {
        owner -> Uuid,
        kind -> Text,
        id -> Text,
        sequence -> Int8,
        version -> Int8,
        tag -> Bytea,
        size -> Int8,
        iv -> Nullable<Bytea>,
        checksum -> Nullable<Bytea>,
        client_time -> Nullable<Timestamptz>,
        metadata -> Jsonb,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    sealing_keys (key_id) {
        key_id -> Text,
        check_value -> Bytea,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        client_did -> Text,
        server_did -> Text,
        session_key -> Nullable<Bytea>,
        key_id -> Nullable<Text>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        deadline -> Timestamptz,
        last_activity -> Timestamptz,
        idle_timeout_seconds -> Nullable<Int4>,
        max_claims -> Nullable<Int8>,
        claims -> Int8,
        metadata -> Jsonb,
        user_agent -> Nullable<Text>,
        ip_address -> Nullable<Inet>,
        ended_at -> Nullable<Timestamptz>,
        end_reason -> Nullable<Text>,
        version -> Int8,
    }
}

diesel::table! {
    signer_nonces (signer, nonce) {
        signer -> Bytea,
        nonce -> Text,
        used_at -> Timestamptz,
        expires_at -> Timestamptz,
        idempotency -> Nullable<Bytea>,
    }
}

diesel::table! {
    signers (signer) {
        signer -> Bytea,
        did -> Text,
        live -> Int8,
    }
}

diesel::table! {
    transfers (direction) {
        direction -> Text,
        id -> Uuid,
        peer -> Text,
        began_at -> Timestamptz,
        moved_at -> Nullable<Timestamptz>,
        confirmed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webhook_deliveries (webhook, sequence) {
        webhook -> Uuid,
        sequence -> Int8,
        event -> Uuid,
        state -> Text,
        attempts -> Int4,
        next_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        attempted_at -> Nullable<Timestamptz>,
        status -> Nullable<Int4>,
        error -> Nullable<Text>,
    }
}

diesel::table! {
    webhooks (id) {
        id -> Uuid,
        url -> Text,
        types -> Array<Nullable<Text>>,
        signature -> Text,
        secret -> Bytea,
        key_id -> Text,
        state -> Text,
        reason -> Nullable<Text>,
        last_sequence -> Int8,
        created_at -> Timestamptz,
        name -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    api_tokens,
    dids,
    event_chain,
    event_heads,
    events,
    history,
    instances,
    leases,
    marks,
    nonces,
    publications,
    record_blobs,
    record_owners,
    record_shares,
    records,
    sealing_keys,
    sessions,
    signer_nonces,
    signers,
    transfers,
    webhook_deliveries,
    webhooks,
);

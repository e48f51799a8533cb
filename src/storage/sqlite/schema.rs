//! SQLite's tables as Diesel types, exactly as `migrations/sqlite` makes them.

diesel::table! {
    sessions (id) {
        number -> BigInt,
        id -> Binary,
        client_did -> Text,
        server_did -> Text,
        session_key -> Nullable<Binary>,
        key_id -> Nullable<Text>,
        created_at -> BigInt,
        expires_at -> BigInt,
        deadline -> BigInt,
        last_activity -> BigInt,
        idle_timeout_seconds -> Nullable<BigInt>,
        max_claims -> Nullable<BigInt>,
        claims -> BigInt,
        metadata -> Text,
        user_agent -> Nullable<Text>,
        ip_address -> Nullable<Text>,
        ended_at -> Nullable<BigInt>,
        end_reason -> Nullable<Text>,
        version -> BigInt,
        words -> Nullable<BigInt>,
    }
}

diesel::table! {
    session_nonces (session, nonce) {
        session -> BigInt,
        nonce -> Text,
        used_at -> BigInt,
        idempotency -> Nullable<Binary>,
    }
}

diesel::table! {
    /// A view: the nonces of sessions as PostgreSQL has them.
    nonces (session_id, nonce) {
        session_id -> Binary,
        nonce -> Text,
        used_at -> BigInt,
        expires_at -> BigInt,
        idempotency -> Nullable<Binary>,
    }
}

diesel::table! {
    dids (did) {
        did -> Text,
        public_key -> Nullable<Binary>,
        key_type -> Nullable<Text>,
        owner_address -> Nullable<Text>,
        document -> Nullable<Text>,
        gone -> Nullable<Text>,
        revoked -> Bool,
        revoked_at -> Nullable<BigInt>,
        source -> Nullable<Text>,
        version -> Nullable<BigInt>,
        fetched_at -> Nullable<BigInt>,
        stale_at -> Nullable<BigInt>,
        created_at -> BigInt,
        updated_at -> BigInt,
        words -> Nullable<BigInt>,
    }
}

diesel::table! {
    signers (signer) {
        signer -> Binary,
        did -> Text,
        live -> BigInt,
    }
}

diesel::table! {
    signer_nonces (signer, nonce) {
        signer -> Binary,
        nonce -> Text,
        used_at -> BigInt,
        expires_at -> BigInt,
        idempotency -> Nullable<Binary>,
    }
}

diesel::table! {
    api_tokens (id) {
        id -> Binary,
        name -> Text,
        hash -> Binary,
        scopes -> Text,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        namespace -> Nullable<Text>,
        max_ttl_seconds -> Nullable<BigInt>,
    }
}

diesel::table! {
    events (id) {
        id -> Binary,
        sequence -> Nullable<BigInt>,
        #[sql_name = "type"]
        type_ -> Text,
        source -> Text,
        subject -> Nullable<Text>,
        actor -> Nullable<Text>,
        outcome -> Text,
        request_id -> Nullable<Text>,
        at -> BigInt,
        data -> Text,
        salt -> Nullable<Binary>,
        commitment -> Nullable<Binary>,
        hash -> Nullable<Binary>,
    }
}

diesel::table! {
    webhooks (id) {
        id -> Binary,
        url -> Text,
        types -> Text,
        signature -> Text,
        secret -> Binary,
        key_id -> Text,
        state -> Text,
        reason -> Nullable<Text>,
        last_sequence -> BigInt,
        created_at -> BigInt,
        name -> Nullable<Text>,
    }
}

diesel::table! {
    webhook_deliveries (webhook, sequence) {
        webhook -> Binary,
        sequence -> BigInt,
        event -> Binary,
        state -> Text,
        attempts -> BigInt,
        next_at -> Nullable<BigInt>,
        created_at -> BigInt,
        attempted_at -> Nullable<BigInt>,
        status -> Nullable<BigInt>,
        error -> Nullable<Text>,
    }
}

diesel::table! {
    publications (digest) {
        digest -> Binary,
        content -> Binary,
        events -> Binary,
        at -> BigInt,
    }
}

diesel::table! {
    event_chain (only_row) {
        only_row -> BigInt,
        origin -> Binary,
        sequence -> BigInt,
        hash -> Binary,
        linked_at -> Nullable<BigInt>,
        cut_sequence -> BigInt,
        cut_hash -> Binary,
    }
}

diesel::table! {
    event_heads (sequence) {
        sequence -> BigInt,
        hash -> Binary,
        signed_at -> BigInt,
        note -> Text,
    }
}

diesel::table! {
    sealing_keys (key_id) {
        key_id -> Text,
        check_value -> Binary,
    }
}

diesel::table! {
    leases (name) {
        name -> Text,
        holder -> Text,
        taken_at -> BigInt,
        until -> BigInt,
        finished_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    instances (id) {
        id -> Binary,
        name -> Text,
        host -> Text,
        version -> Text,
        started_at -> BigInt,
        heartbeat_at -> BigInt,
        ended_at -> Nullable<BigInt>,
        state -> Text,
        counter -> BigInt,
        issued_until -> Nullable<BigInt>,
    }
}

diesel::table! {
    history (only_row) {
        only_row -> BigInt,
        purged_until -> Nullable<BigInt>,
        generation -> Binary,
        ancestors -> Binary,
        recovered_at -> Nullable<BigInt>,
        not_before -> Nullable<BigInt>,
        ahead_until -> Nullable<BigInt>,
        skew_seconds -> BigInt,
    }
}

diesel::table! {
    record_owners (id) {
        id -> Binary,
        did -> Nullable<Text>,
        agent -> Bool,
        sequence -> BigInt,
        forgotten -> BigInt,
        records -> BigInt,
        bytes -> BigInt,
        last_accessed -> BigInt,
    }
}

diesel::table! {
    records (owner, kind, id) {
        owner -> Binary,
        kind -> Text,
        id -> Text,
        sequence -> BigInt,
        version -> BigInt,
        tag -> Binary,
        size -> BigInt,
        iv -> Nullable<Binary>,
        checksum -> Nullable<Binary>,
        client_time -> Nullable<BigInt>,
        metadata -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        deleted_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    record_blobs (owner, sequence) {
        owner -> Binary,
        sequence -> BigInt,
        ciphertext -> Binary,
    }
}

diesel::table! {
    record_shares (share) {
        share -> Integer,
        records -> BigInt,
        bytes -> BigInt,
    }
}

diesel::table! {
    transfers (direction) {
        direction -> Text,
        id -> Binary,
        peer -> Text,
        began_at -> BigInt,
        moved_at -> Nullable<BigInt>,
        confirmed_at -> Nullable<BigInt>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(sessions, nonces);
diesel::allow_tables_to_appear_in_same_query!(webhooks, webhook_deliveries);
diesel::allow_tables_to_appear_in_same_query!(record_owners, records, record_blobs);

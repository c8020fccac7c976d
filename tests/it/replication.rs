//! The replication client against a real server: logins, TLS, slots, the stream and its feedback.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millstream::config::Secret;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::error::{Error, Kind};
use millstream::pg::config::ChannelBinding;
use millstream::pg::pgoutput::{self, Message};
use millstream::pg::{
    self, ConnectConfig, CreateSlot, Lsn, ReplicationClient, SslMode, StartOptions, WalFrame, WalStream,
};

fn config(server: &TemporaryPostgres, user: &str) -> ConnectConfig {
    ConnectConfig {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
        user: user.to_owned(),
        dbname: "postgres".to_owned(),
        ..ConnectConfig::default()
    }
}

fn with_password(mut config: ConnectConfig, password: &str) -> ConnectConfig {
    config.password = Some(Secret::from(password));
    config
}

/// Logs in both ways: as a walsender and with tokio-postgres.
async fn login(config: &ConnectConfig) -> Result<(), Error> {
    let mut replication = ReplicationClient::connect(config).await?;
    let identity = replication.identify_system().await?;
    assert!(!identity.system_id.is_empty() && identity.position > Lsn::ZERO);
    replication.close().await;
    let client = pg::connect(config).await?;
    let row = client.query_one("select current_user::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), config.user);
    Ok(())
}

#[tokio::test]
async fn logins_by_every_method_and_what_is_said_when_they_fail() {
    let server = TemporaryPostgres::start(&PostgresOptions {
        hba: [
            "host all md5_user all md5",
            "host all scram_user all scram-sha-256",
            "host all clear_user all password",
            "local all scram_user scram-sha-256",
            "host all plain_user all trust",
            "host all nobody_user all reject",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..PostgresOptions::default()
    })
    .unwrap();
    server
        .psql(
            "postgres",
            "set password_encryption = 'md5'; create role md5_user login replication password 'one';
             set password_encryption = 'scram-sha-256';
             create role scram_user login replication password 'pass wörd''s';
             create role clear_user login replication password 'three';
             create role plain_user login;",
        )
        .unwrap();

    login(&with_password(config(&server, "md5_user"), "one")).await.unwrap();
    login(&with_password(config(&server, "clear_user"), "three")).await.unwrap();
    let scram = with_password(config(&server, "scram_user"), "pass wörd's");
    login(&scram).await.unwrap();
    let mut socket = scram.clone();
    socket.host = server.socket_dir().to_str().unwrap().to_owned();
    login(&socket).await.unwrap();

    for user in ["md5_user", "scram_user", "clear_user"] {
        let wrong = with_password(config(&server, user), "wrong");
        for error in [ReplicationClient::connect(&wrong).await.err(), pg::connect(&wrong).await.err()] {
            let error = error.unwrap();
            assert_eq!(error.kind(), Kind::Refused, "{error}");
            assert!(error.screen().contains("password authentication failed"), "{error}");
            assert!(error.next_step().unwrap().contains("check the user and the password"), "{error}");
            assert_eq!(pg::sqlstate(&error), Some("28P01"));
        }
        let none = config(&server, user);
        for error in [ReplicationClient::connect(&none).await.err(), pg::connect(&none).await.err()] {
            let error = error.unwrap();
            assert!(error.screen().contains("none is given"), "{error}");
        }
    }

    let error = ReplicationClient::connect(&config(&server, "plain_user")).await.unwrap_err();
    assert!(error.next_step().unwrap().contains("REPLICATION"), "{error}");
    let error = pg::connect(&config(&server, "nobody_user")).await.unwrap_err();
    assert!(error.next_step().unwrap().contains("pg_hba.conf"), "{error}");
    let mut nowhere = config(&server, "postgres");
    nowhere.dbname = "nowhere".to_owned();
    let error = pg::connect(&nowhere).await.unwrap_err();
    assert!(error.screen().contains("check the name of the database"), "{error}");
    let mut closed = config(&server, "postgres");
    closed.port = millstream::demo::postgres::free_port().unwrap();
    let error = ReplicationClient::connect(&closed).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    assert!(error.screen().contains("cannot reach PostgreSQL at 127.0.0.1"), "{error}");

    let mut mapped = config(&server, "postgres");
    (mapped.host, mapped.port) = ("source".to_owned(), 5432);
    mapped.addresses.push(format!("source:5432=127.0.0.1:{}", server.port()).parse().unwrap());
    login(&mapped).await.unwrap();
}

/// A certificate authority made for the test, and what it signed.
pub struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    pub fn new() -> Self {
        use openssl::asn1::Asn1Time;
        use openssl::hash::MessageDigest;
        use openssl::pkey::PKey;
        use openssl::rsa::Rsa;
        use openssl::symm::Cipher;
        use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
        use openssl::x509::{X509, X509NameBuilder};

        let dir = tempfile::tempdir().unwrap();
        let key = || PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let name = |cn: &str| {
            let mut name = X509NameBuilder::new().unwrap();
            name.append_entry_by_text("CN", cn).unwrap();
            name.build()
        };
        let mut serial = 0;
        let mut certificate =
            |cn: &str, key: &PKey<_>, ca: Option<(&X509, &PKey<openssl::pkey::Private>)>| {
                serial += 1;
                let mut builder = X509::builder().unwrap();
                builder.set_version(2).unwrap();
                let number = openssl::bn::BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap();
                builder.set_serial_number(&number).unwrap();
                builder.set_subject_name(&name(cn)).unwrap();
                builder.set_pubkey(key).unwrap();
                builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
                builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
                match ca {
                    Some((ca, ca_key)) => {
                        builder.set_issuer_name(ca.subject_name()).unwrap();
                        let alternative = SubjectAlternativeName::new()
                            .dns(cn)
                            .build(&builder.x509v3_context(Some(ca), None));
                        builder.append_extension(alternative.unwrap()).unwrap();
                        builder.sign(ca_key, MessageDigest::sha256()).unwrap();
                    }
                    None => {
                        builder.set_issuer_name(&name(cn)).unwrap();
                        builder
                            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
                            .unwrap();
                        builder.sign(key, MessageDigest::sha256()).unwrap();
                    }
                }
                builder.build()
            };
        let (ca_key, other_key, server_key, client_key) = (key(), key(), key(), key());
        let ca = certificate("test authority", &ca_key, None);
        let other = certificate("another authority", &other_key, None);
        let server = certificate("db.test", &server_key, Some((&ca, &ca_key)));
        let client = certificate("cert_user", &client_key, Some((&ca, &ca_key)));
        let pki = Self { dir };
        let write = |name: &str, bytes: Vec<u8>| std::fs::write(pki.path(name), bytes).unwrap();
        write("ca.crt", ca.to_pem().unwrap());
        write("other.crt", other.to_pem().unwrap());
        write("server.crt", server.to_pem().unwrap());
        write("server.key", server_key.private_key_to_pem_pkcs8().unwrap());
        write("client.crt", client.to_pem().unwrap());
        write("client.key", client_key.private_key_to_pem_pkcs8().unwrap());
        write("client.der", client_key.private_key_to_pkcs8().unwrap());
        write(
            "client.locked",
            client_key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"open sesame").unwrap(),
        );
        pki
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts certificate and key into the server's data directory and turns TLS on.
    fn install(&self, server: &mut TemporaryPostgres) {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        server.stop(false).unwrap();
        let data = server.data_dir();
        let owner = std::fs::metadata(&data).unwrap();
        for (from, to) in [("server.crt", "server.crt"), ("server.key", "server.key"), ("ca.crt", "root.crt")]
        {
            let to = data.join(to);
            std::fs::copy(self.path(from), &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
            chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        append(&data.join("postgresql.conf"), "ssl = on\nssl_ca_file = 'root.crt'\n");
        server.boot().unwrap();
    }
}

fn append(path: &Path, text: &str) {
    let old = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, old + "\n" + text).unwrap();
}

#[tokio::test]
async fn the_sslmode_ladder_and_channel_binding() {
    let mut server = TemporaryPostgres::start(&PostgresOptions {
        hba: [
            "hostssl all tls_user all scram-sha-256",
            "hostnossl all tls_user all reject",
            "hostnossl all bare_user all scram-sha-256",
            "hostssl all bare_user all reject",
            "hostssl all cert_user all cert",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..PostgresOptions::default()
    })
    .unwrap();
    server
        .psql(
            "postgres",
            "create role tls_user superuser login replication password 'x';
             create role bare_user superuser login replication password 'x';
             create role cert_user superuser login replication",
        )
        .unwrap();
    let tls_user = with_password(config(&server, "tls_user"), "x");
    let bare_user = with_password(config(&server, "bare_user"), "x");
    let with = |config: &ConnectConfig, mode: SslMode| ConnectConfig { ssl_mode: mode, ..config.clone() };

    // A server without TLS.
    let error = login(&with(&bare_user, SslMode::Require)).await.unwrap_err();
    assert!(error.screen().contains("has no TLS"), "{error}");
    login(&with(&bare_user, SslMode::Prefer)).await.unwrap();

    let pki = Pki::new();
    pki.install(&mut server);

    // Who must use TLS gets it, except where it was forbidden; who must not, likewise.
    for mode in [SslMode::Allow, SslMode::Prefer, SslMode::Require] {
        login(&with(&tls_user, mode)).await.unwrap_or_else(|e| panic!("{mode}: {e}"));
    }
    assert!(login(&with(&tls_user, SslMode::Disable)).await.is_err());
    for mode in [SslMode::Disable, SslMode::Allow, SslMode::Prefer] {
        login(&with(&bare_user, mode)).await.unwrap_or_else(|e| panic!("{mode}: {e}"));
    }
    assert!(login(&with(&bare_user, SslMode::Require)).await.is_err());

    // Certificates: 127.0.0.1 is not in the server's, db.test is.
    let mut verified = with(&tls_user, SslMode::VerifyCa);
    verified.ssl_root_cert = Some(pki.path("ca.crt"));
    login(&verified).await.unwrap();
    let error = login(&with(&verified, SslMode::VerifyFull)).await.unwrap_err();
    assert!(error.screen().contains("certificate was refused"), "{error}");
    let mut named = with(&verified, SslMode::VerifyFull);
    (named.host, named.port) = ("db.test".to_owned(), 5432);
    named.addresses.push(format!("db.test:5432=127.0.0.1:{}", server.port()).parse().unwrap());
    login(&named).await.unwrap();
    let mut stranger = verified.clone();
    stranger.ssl_root_cert = Some(pki.path("other.crt"));
    let error = login(&stranger).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.next_step().unwrap().contains("sslrootcert"), "{error}");
    stranger.ssl_root_cert = Some(pki.path("nowhere.crt"));
    assert!(login(&stranger).await.unwrap_err().screen().contains("cannot read sslrootcert"));

    // Channel binding: used where it can be, refused where it was required and cannot be.
    let mut bound = with(&tls_user, SslMode::Require);
    for binding in [ChannelBinding::Disable, ChannelBinding::Prefer, ChannelBinding::Require] {
        bound.channel_binding = binding;
        login(&bound).await.unwrap_or_else(|e| panic!("{binding:?}: {e}"));
    }
    let mut unbound = with(&bare_user, SslMode::Disable);
    unbound.channel_binding = ChannelBinding::Require;
    let error = ReplicationClient::connect(&unbound).await.unwrap_err();
    assert!(error.screen().contains("channel_binding"), "{error}");

    // Client certificates in every form of key.
    for (key, password) in
        [("client.key", None), ("client.der", None), ("client.locked", Some("open sesame"))]
    {
        let mut by_cert = with(&config(&server, "cert_user"), SslMode::Require);
        by_cert.ssl_cert = Some(pki.path("client.crt"));
        by_cert.ssl_key = Some(pki.path(key));
        by_cert.ssl_password = password.map(Secret::from);
        login(&by_cert).await.unwrap_or_else(|e| panic!("{key}: {e}"));
        if password.is_some() {
            by_cert.ssl_password = None;
            let error = login(&by_cert).await.unwrap_err();
            assert!(error.screen().contains("sslpassword"), "{error}");
        }
    }
    let nothing = with(&config(&server, "cert_user"), SslMode::Require);
    assert!(login(&nothing).await.is_err());
    let row = pg::connect(&with(&tls_user, SslMode::Prefer)).await.unwrap();
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert!(row.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
}

fn server_with_table(settings: &[&str]) -> TemporaryPostgres {
    let server = TemporaryPostgres::start(&PostgresOptions {
        settings: settings.iter().map(|s| (*s).to_owned()).collect(),
        ..PostgresOptions::default()
    })
    .unwrap();
    server
        .psql("postgres", "create table t(id int primary key, v text); create publication p for table t")
        .unwrap();
    server
}

async fn slot(config: &ConnectConfig, name: &str) -> Lsn {
    let mut client = ReplicationClient::connect(config).await.unwrap();
    let slot = CreateSlot { export_snapshot: false, ..CreateSlot::new(name) };
    let created = client.create_slot(&slot, Duration::from_secs(20)).await.unwrap();
    client.close().await;
    created.consistent_point
}

async fn stream(config: &ConnectConfig, options: &StartOptions) -> Result<WalStream, Error> {
    ReplicationClient::connect(config).await?.start(options).await
}

/// Reads until this many commits have come; returns the number of rows and the end of the last transaction.
async fn read_commits(stream: &mut WalStream, commits: usize) -> (usize, Lsn) {
    let (mut rows, mut seen, mut end) = (0, 0, Lsn::ZERO);
    while seen < commits {
        let chunk =
            tokio::time::timeout(Duration::from_secs(20), stream.next_chunk()).await.unwrap().unwrap();
        for frame in &chunk {
            let WalFrame::Data(data) = frame else { continue };
            match pgoutput::parse(data.payload, false).unwrap() {
                Message::Insert { new, .. } => {
                    rows += 1;
                    assert_eq!(new.len(), 2);
                }
                Message::Commit { end_lsn, .. } => {
                    seen += 1;
                    end = end_lsn;
                }
                _ => {}
            }
        }
    }
    (rows, end)
}

fn confirmed(server: &TemporaryPostgres, slot: &str) -> Lsn {
    let sql = format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{slot}'");
    server.psql("postgres", &sql).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn changes_come_and_only_what_was_confirmed_stays_away() {
    let server = server_with_table(&[]);
    let config = config(&server, "postgres");
    let start = slot(&config, "s").await;
    server
        .psql("postgres", "insert into t select g, repeat('x', 1000) from generate_series(1, 5000) g")
        .unwrap();
    let options = StartOptions::new("s", "p", Lsn::ZERO);
    let mut first = stream(&config, &options).await.unwrap();
    let (rows, end) = read_commits(&mut first, 1).await;
    assert_eq!(rows, 5000);
    assert!(end > start);
    assert!(confirmed(&server, "s") <= start, "nothing was acknowledged");

    // A second reader is told why it cannot have the slot.
    let error = stream(&config, &options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced, "{error}");
    assert!(error.screen().contains("cannot stream from replication slot \"s\""), "{error}");

    // Unacknowledged data comes again.
    first.stop().await;
    let mut second = stream(&config, &options).await.unwrap();
    let (rows, end) = read_commits(&mut second, 1).await;
    assert_eq!(rows, 5000);
    second.acknowledger().flushed(end);
    second.acknowledger().flushed(start);
    assert_eq!(second.acknowledger().position(), end);
    let deadline = Instant::now() + Duration::from_secs(3);
    while confirmed(&server, "s") < end {
        assert!(Instant::now() < deadline, "the flushed position was not reported");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        second
            .try_next_chunk()
            .unwrap()
            .is_none_or(|c| c.iter().all(|f| matches!(f, WalFrame::Keepalive(_))))
    );
    second.stop().await;

    // Acknowledged data does not, and `stop` itself reports the last position.
    server.psql("postgres", "insert into t values (6000, 'y')").unwrap();
    let mut third = stream(&config, &options).await.unwrap();
    let (rows, end) = read_commits(&mut third, 1).await;
    assert_eq!(rows, 1);
    third.acknowledger().flushed(end);
    third.stop().await;
    assert!(confirmed(&server, "s") >= end);
    let mut client = ReplicationClient::connect(&config).await.unwrap();
    client.drop_slot("s", true).await.unwrap();
    let error = client.start(&options).await.unwrap_err();
    assert!(error.screen().contains("does not exist"), "{error}");
    assert!(error.next_step().unwrap().contains("snapshot"), "{error}");
}

#[tokio::test]
async fn feedback_goes_on_while_the_consumer_sleeps() {
    let server = server_with_table(&["wal_sender_timeout = 2s"]);
    let config = config(&server, "postgres");
    slot(&config, "s").await;
    // Far more than the socket's buffers hold, so that the walsender stands still too.
    server
        .psql("postgres", "insert into t select g, repeat('x', 2000) from generate_series(1, 20000) g")
        .unwrap();
    let mut options = StartOptions::new("s", "p", Lsn::ZERO);
    options.status_interval = Duration::from_secs(10);
    let mut stream = stream(&config, &options).await.unwrap();
    stream.next_chunk().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (_, end) = read_commits(&mut stream, 1).await;
    // And while nothing happens at all.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.psql("postgres", "insert into t values (0, 'y')").unwrap();
    let (rows, later) = read_commits(&mut stream, 1).await;
    assert_eq!(rows, 1);
    assert!(later > end);
    stream.stop().await;
}

#[tokio::test]
async fn what_stops_a_stream_is_said() {
    let mut server = server_with_table(&[]);
    let config = config(&server, "postgres");
    slot(&config, "s").await;
    server.psql("postgres", "insert into t values (1, 'x')").unwrap();
    let mut no_publication = stream(&config, &StartOptions::new("s", "nowhere", Lsn::ZERO)).await.unwrap();
    let error = loop {
        if let Err(error) = no_publication.next_chunk().await {
            break error;
        }
    };
    let screen = error.screen();
    // PostgreSQL 18 says: skipped loading publication "nowhere": The publication does not exist …
    assert!(screen.contains("publication \"nowhere\"") && screen.contains("does not exist"), "{screen}");
    assert!(error.next_step().unwrap().contains("create the publication"), "{error}");
    drop(no_publication);

    let mut client = ReplicationClient::connect(&config).await.unwrap();
    let error = client.create_slot(&CreateSlot::new("s"), Duration::ZERO).await.unwrap_err();
    assert!(error.screen().contains("already exists"), "{error}");
    // A transaction under way holds the slot up; the limit ends the wait.
    let holder = pg::connect(&config).await.unwrap();
    holder.batch_execute("begin; insert into t values (2, 'y')").await.unwrap();
    let error = client.create_slot(&CreateSlot::new("s2"), Duration::from_millis(300)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    holder.batch_execute("rollback").await.unwrap();

    let mut options = StartOptions::new("s", "p", Lsn::ZERO);
    options.proto_version = 2;
    options.streaming = true;
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut stream = loop {
        match ReplicationClient::connect(&config).await.unwrap().start(&options).await {
            Ok(stream) => break stream,
            Err(error) => assert!(error.kind() == Kind::Fenced && Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    read_commits(&mut stream, 1).await;
    server.stop(true).unwrap();
    let error = loop {
        if let Err(error) = stream.next_chunk().await {
            break error;
        }
    };
    assert!(error.is_transient(), "{error}");

    append(&server.data_dir().join("postgresql.conf"), "wal_level = replica\nmax_replication_slots = 20\n");
    std::fs::remove_dir_all(server.data_dir().join("pg_replslot/s")).unwrap();
    server.boot().unwrap();
    let mut client = ReplicationClient::connect(&config).await.unwrap();
    let error = client.create_slot(&CreateSlot::new("s3"), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.next_step().unwrap().contains("wal_level = logical"), "{error}");
}

//! Against servers of one answer.

use std::io::{Read as _, Write as _};

use super::*;

/// Serves one request with this answer and gives what was asked.
fn serve(reply: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://kc:pw@{}/api", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; 4096];
        let n = stream.read(&mut asked).unwrap();
        asked.truncate(n);
        stream.write_all(reply.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (url, served)
}

fn registry(url: &str, more: &[(&str, &str)]) -> Registry {
    let mut all = vec![("value.converter.schema.registry.url", url)];
    all.extend_from_slice(more);
    Registry::new(&Options::new("value.converter.", &all), &AddressMap::default()).unwrap()
}

#[test]
fn a_schema_is_registered_under_its_subject_with_the_credentials_of_the_address() {
    let (url, served) = serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"id\":42}");
    assert_eq!(registry(&url, &[]).id("t-value", "\"string\"", None), Ok(42));
    let asked = served.join().unwrap();
    assert!(asked.starts_with("POST /api/subjects/t%2Dvalue/versions HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("Authorization: Basic a2M6cHc=\r\n"), "{asked}");
}

#[test]
fn the_latest_schema_is_taken_where_nothing_is_registered() {
    let (url, served) =
        serve("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"id\":3,\"schema\":\"\\\"string\\\"\"}");
    let latest =
        [("value.converter.auto.register.schemas", "false"), ("value.converter.use.latest.version", "true")];
    assert_eq!(registry(&url, &latest).id("t-value", "\"string\"", None), Ok(3));
    assert!(served.join().unwrap().starts_with("GET /api/subjects/t%2Dvalue/versions/latest "));
}

#[test]
fn a_registry_is_looked_for_at_start() {
    let (url, _served) = serve("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(registry(&url, &[]).ready(), Ok(()));
    let (url, _served) = serve("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}");
    let refused = registry(&url, &[]).ready().unwrap_err();
    assert!(!refused.may_heal() && refused.to_string().contains("basic.auth.user.info"), "{refused}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = registry(&format!("http://127.0.0.1:{port}"), &[]).ready().unwrap_err();
    assert!(away.may_heal(), "{away}");
    assert!(away.to_string().starts_with("property value.converter.schema.registry.url: "), "{away}");
}

#[test]
fn credentials_come_from_where_the_source_says() {
    let head = |more: &[(&str, &str)]| {
        let mut all = vec![("value.converter.schema.registry.url", "http://kc:pw@h:1")];
        all.extend_from_slice(more);
        let made = Registry::new(&Options::new("value.converter.", &all), &AddressMap::default());
        made.map(|r| r.client.authorization).map_err(|e| e.to_string())
    };
    let basic = |text: &str| Ok(Some(format!("Basic {}", STANDARD.encode(text))));
    let source = "value.converter.basic.auth.credentials.source";
    assert_eq!(head(&[]), basic("kc:pw"));
    let info = ("value.converter.basic.auth.user.info", "a:b");
    assert_eq!(head(&[(source, "USER_INFO"), info]), basic("a:b"));
    let jaas = "x.PlainLoginModule required username=\"u\" password=\"p\";";
    assert_eq!(head(&[(source, "SASL_INHERIT"), ("value.converter.sasl.jaas.config", jaas)]), basic("u:p"));
    let missing = head(&[(source, "SASL_INHERIT")]).unwrap_err();
    assert!(missing.contains("value.converter.sasl.jaas.config"), "{missing}");
    assert!(head(&[(source, "OTHER")]).unwrap_err().contains("SASL_INHERIT"));
}

#[test]
fn what_may_heal_is_told_from_what_may_not() {
    let (url, _served) = serve("HTTP/1.1 409 Conflict\r\nContent-Length: 17\r\n\r\n{\"message\":\"old\"}");
    let refused = registry(&url, &[]).id("t-value", "\"int\"", None).unwrap_err();
    assert!(refused.contains("not compatible") && refused.contains("old") && !unavailable(&refused));
    let (url, _served) = serve("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}");
    assert!(unavailable(&registry(&url, &[]).id("t-value", "\"int\"", None).unwrap_err()));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = registry(&format!("http://127.0.0.1:{port}"), &[]);
    assert!(unavailable(&nobody.id("t-value", "\"int\"", None).unwrap_err()));
}

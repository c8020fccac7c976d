//! One Kafka broker for all tests of this binary: `MILLSTREAM_TEST_KAFKA=host:port`, or a temporary one.

use std::io::Write;
use std::sync::OnceLock;

use millstream::demo::kafka::TemporaryKafka;

/// Who may log in on the guarded listener, and do nothing.
pub const USER: (&str, &str) = ("ann", "right");

static BROKER: OnceLock<Result<Broker, String>> = OnceLock::new();

enum Broker {
    Given(String),
    // Never dropped: its keeper process sees our end and removes it.
    Started(TemporaryKafka),
}

/// The broker's URL for `--log`; `None` when there is no way to a broker: then the test is skipped, loudly, and
/// with `CI=true` it fails.
pub fn broker() -> Option<String> {
    let broker = BROKER.get_or_init(|| match std::env::var("MILLSTREAM_TEST_KAFKA") {
        Ok(given) if !given.is_empty() => Ok(Broker::Given(format!("kafka://{given}"))),
        _ => TemporaryKafka::start_with(&[USER]).map(Broker::Started).map_err(|e| e.screen()),
    });
    match broker {
        Ok(Broker::Given(url)) => Some(url.clone()),
        Ok(Broker::Started(kafka)) => Some(kafka.url()),
        Err(why) => {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let text = format!("SKIPPED {test}: no Kafka broker\n{why}\n");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
            // Past the test harness, which shows nothing of a test that passes.
            let _ = std::io::stderr().write_all(text.as_bytes());
            None
        }
    }
}

/// The port where [`USER`] logs in, of the broker that [`broker`] has started.
pub fn guarded() -> Option<u16> {
    match BROKER.get()? {
        Ok(Broker::Started(kafka)) => Some(kafka.guarded()),
        _ => None,
    }
}

/// The listener for a proxy of the broker that [`broker`] has started: its port, and the port it sends clients to.
pub fn proxied() -> Option<(u16, u16)> {
    match BROKER.get()? {
        Ok(Broker::Started(kafka)) => Some(kafka.proxied()),
        _ => None,
    }
}

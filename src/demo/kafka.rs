//! A temporary Apache Kafka: a real broker in KRaft mode, from Maven's jars, in a directory that goes away with it.
//!
//! Used by `demo --log kafka` style checks and by the tests. Java and Maven must be there; the jars (54 MB) are
//! fetched once.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::postgres::free_port;
use crate::error::{Error, Result};

/// The version that is started; the pinned `tests/kafka/pom.xml` names it.
pub const VERSION: &str = "4.3.1";

const POM: &str = include_str!("../../tests/kafka/pom.xml");
const UP_WITHIN: Duration = Duration::from_secs(90);

/// A running broker; stopped and removed when dropped, and also when this process ends in any other way.
#[derive(Debug)]
pub struct TemporaryKafka {
    keeper: Child,
    port: u16,
    proxied: (u16, u16),
    guarded: u16,
    log: PathBuf,
}

impl TemporaryKafka {
    /// Fetches the jars if need be, formats a directory and starts the broker; returns when it takes connections.
    ///
    /// # Errors
    /// Without Java, without a way to the jars, or when the broker does not come up (with the end of its log).
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// As [`TemporaryKafka::start`], with users (name and password) who log in on a listener of their own and may do
    /// nothing there; everybody else may do everything.
    ///
    /// # Errors
    /// As [`TemporaryKafka::start`].
    pub fn start_with(users: &[(&str, &str)]) -> Result<Self> {
        let jars = jars()?;
        let root = tempfile::Builder::new()
            .prefix("millstream-kafka-")
            .tempdir()
            .map_err(|e| Error::config("cannot make a temporary directory for Kafka").with_source(e))?
            .keep();
        let (port, controller) = (free_port()?, free_port()?);
        let proxied = (free_port()?, free_port()?);
        let guarded = free_port()?;
        let properties = root.join("server.properties");
        let mut text = server_properties(&root, port, controller, proxied);
        if !users.is_empty() {
            guard(&mut text, guarded, users);
        }
        fs::write(&properties, text)
            .map_err(|e| Error::config("cannot write Kafka's configuration").with_source(e))?;
        let log = root.join("server.log");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&root)
            .arg(&jars)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Error::config("cannot start Kafka").with_source(e))?;
        let mut broker = Self { keeper, port, proxied, guarded, log };
        broker.await_port()?;
        Ok(broker)
    }

    /// `127.0.0.1:PORT`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A second listener, for those who stand a proxy before the broker: the port it takes connections on, and the
    /// port of 127.0.0.1 that it tells clients to use instead.
    pub fn proxied(&self) -> (u16, u16) {
        self.proxied
    }

    /// The port of 127.0.0.1 where the users of [`TemporaryKafka::start_with`] log in (SASL_PLAINTEXT, PLAIN).
    pub fn guarded(&self) -> u16 {
        self.guarded
    }

    /// For `--log`.
    pub fn url(&self) -> String {
        format!("kafka://{}", self.bootstrap())
    }

    fn await_port(&mut self) -> Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let started = Instant::now();
        loop {
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            let ended = !matches!(self.keeper.try_wait(), Ok(None));
            if ended || started.elapsed() > UP_WITHIN {
                let text = fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n       ");
                return Err(Error::config("the temporary Kafka broker did not start")
                    .because(tail)
                    .next("run it again; java -version must say 17 or newer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for TemporaryKafka {
    fn drop(&mut self) {
        // The keeper's input ends: it stops the broker and removes the directory.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Formats, starts, and waits for the end of its input, which comes with the end of our process, however it ends.
const KEEPER: &str = r#"
root=$1; jars=$2
export CLASSPATH="$jars/*"
opts="-Xshare:auto -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
java $opts -Xmx128m kafka.tools.StorageTool format -t MillstreamTestAAAAAAAA -c "$root/server.properties" >"$root/server.log" 2>&1 </dev/null || exit 1
java $opts -Xmx512m kafka.Kafka "$root/server.properties" >>"$root/server.log" 2>&1 </dev/null &
broker=$!
(while kill -0 $broker 2>/dev/null; do sleep 0.5; done; kill $$ 2>/dev/null) &
watch=$!
trap 'kill -9 $broker $watch 2>/dev/null; wait $broker 2>/dev/null; rm -rf "$root"' EXIT
trap 'exit 1' TERM INT
while read -r _; do :; done
exit 0
"#;

fn server_properties(root: &Path, port: u16, controller: u16, (inner, advertised): (u16, u16)) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{advertised}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT\n\
         log.dirs={}/data\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         auto.create.topics.enable=false\n",
        root.display()
    )
}

/// Adds a listener for users that log in, and may do nothing.
fn guard(properties: &mut String, port: u16, users: &[(&str, &str)]) {
    let mut out = String::new();
    for line in properties.lines() {
        out.push_str(line);
        match line.split('=').next() {
            Some("listeners" | "advertised.listeners") => {
                out.push_str(&format!(",GUARDED://127.0.0.1:{port}"))
            }
            Some("listener.security.protocol.map") => out.push_str(",GUARDED:SASL_PLAINTEXT"),
            _ => {}
        }
        out.push('\n');
    }
    let known: String = users.iter().map(|(name, password)| format!(" user_{name}=\"{password}\"")).collect();
    out.push_str(&format!(
        "listener.name.guarded.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required{known};\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\n"
    ));
    *properties = out;
}

/// The folder with Kafka's jars: `MILLSTREAM_KAFKA_JARS`, else fetched by Maven once into the cache.
///
/// # Errors
/// Without Java or Maven, or without a way to Maven Central.
pub fn jars() -> Result<PathBuf> {
    if Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Err(Error::config("Kafka needs Java, which is not installed").next(
            "install a Java 17 runtime (apt-get install openjdk-17-jre-headless), or use a broker you have",
        ));
    }
    if let Some(dir) = std::env::var_os("MILLSTREAM_KAFKA_JARS").filter(|v| !v.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    let cache = cache_dir();
    let dir = cache.join(format!("kafka-{VERSION}"));
    if dir.join(".complete").is_file() {
        return Ok(dir);
    }
    let failed = |e: std::io::Error| {
        Error::config(format!("cannot write Kafka's jars into {}", cache.display())).with_source(e)
    };
    fs::create_dir_all(&cache).map_err(failed)?;
    let work = tempfile::Builder::new().prefix("kafka-").tempdir_in(&cache).map_err(failed)?;
    fs::write(work.path().join("pom.xml"), POM).map_err(failed)?;
    let output = Command::new("mvn")
        .args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=jars",
        ])
        .current_dir(work.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|e| {
            Error::config("Kafka's jars are fetched by Maven, which is not installed")
                .with_source(e)
                .next("apt-get install maven, or point MILLSTREAM_KAFKA_JARS at a folder with Kafka's jars")
        })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().find(|l| l.contains("ERROR")).unwrap_or("mvn failed").to_owned();
        return Err(Error::config("Kafka's jars cannot be fetched from Maven Central").because(first));
    }
    let jars = work.path().join("jars");
    fs::write(jars.join(".complete"), "").map_err(failed)?;
    // Another process may have been faster; its folder is as good.
    if fs::rename(&jars, &dir).is_err() && !dir.join(".complete").is_file() {
        return Err(Error::config(format!("cannot move Kafka's jars to {}", dir.display())));
    }
    Ok(dir)
}

/// In a checkout `target`, so that `cargo clean` removes it; else the user's cache.
fn cache_dir() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    if checkout.join("Cargo.toml").is_file() {
        return checkout.join("target/kafka");
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache"));
    base.or_else(home).unwrap_or_else(std::env::temp_dir).join("millstream")
}

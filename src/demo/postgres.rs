//! A temporary PostgreSQL server: real server processes in a directory that goes away with them.
//!
//! Used by the demo and by the tests. PostgreSQL refuses to run as root, so a process of root starts it as
//! the operating system's user `postgres` (or `nobody`).

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::error::{Error, Result};

/// How a [`TemporaryPostgres`] is set up.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// Lines for `postgresql.conf`, beyond `wal_level=logical` and what a temporary server needs.
    pub settings: Vec<String>,
    /// Lines that stand before the trust lines in `pg_hba.conf` (`hostssl all all all scram-sha-256`, …).
    pub hba: Vec<String>,
    /// `fsync`: off is faster; crash tests of the server itself want it on.
    pub fsync: bool,
    /// The server programs' directory; as [`find_server_programs`] finds it where there is none.
    pub bin: Option<PathBuf>,
}

/// A running temporary server; stopped and removed when dropped.
#[derive(Debug)]
pub struct TemporaryPostgres {
    bin: PathBuf,
    root: tempfile::TempDir,
    port: u16,
    owner: Option<(u32, u32)>,
    running: bool,
    /// Stops the server and removes the directory when this process ends without doing so itself.
    keeper: Option<Child>,
}

/// The keeper: waits for the end of its standard input, which is the end of the process that holds it.
const KEEPER: &str =
    r#"cat >/dev/null; "$1/pg_ctl" -D "$2/data" -m immediate stop >/dev/null 2>&1; rm -rf "$2""#;

impl TemporaryPostgres {
    /// Makes a cluster (superuser `postgres`, trust on loopback, UTF8, C.UTF-8, UTC) and starts it.
    ///
    /// # Errors
    /// When no server programs are found, or the server does not start (with the end of its log).
    pub fn start(options: &PostgresOptions) -> Result<Self> {
        Self::start_on(options, free_port()?)
    }

    fn start_on(options: &PostgresOptions, port: u16) -> Result<Self> {
        let bin = options.bin.clone().map_or_else(find_server_programs, Ok)?;
        let root = tempfile::Builder::new()
            .prefix("millstream-pg-")
            .tempdir()
            .map_err(|e| Error::config("cannot make a temporary directory for PostgreSQL").with_source(e))?;
        let owner = service_user();
        let mut server = Self { bin, root, port, owner, running: false, keeper: None };
        server.init(options)?;
        server.keeper = Some(server.keep()?);
        server.boot_anywhere()?;
        Ok(server)
    }

    /// Makes a hot standby of this server from a base backup and starts it; it follows by streaming replication.
    /// `settings` are further lines for its `postgresql.conf`.
    ///
    /// # Errors
    /// When the backup fails or the standby does not start.
    pub fn standby(&self, settings: &[&str]) -> Result<Self> {
        let failed = |e: std::io::Error| Error::config("cannot set up a standby's directory").with_source(e);
        let root = tempfile::Builder::new().prefix("millstream-pg-").tempdir().map_err(failed)?;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
        if let Some((uid, gid)) = self.owner {
            chown(root.path(), Some(uid), Some(gid)).map_err(failed)?;
        }
        let mut standby = Self {
            bin: self.bin.clone(),
            root,
            port: free_port()?,
            owner: self.owner,
            running: false,
            keeper: None,
        };
        let data = standby.data_dir();
        self.back_up(&data)?;
        let path = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&path).map_err(failed)?;
        text.push_str(&format!(
            "\nport = {}\nunix_socket_directories = '{}'\nprimary_conninfo = 'host=127.0.0.1 port={} user=postgres \
             dbname=postgres'\n",
            standby.port,
            standby.root.path().display(),
            self.port
        ));
        for line in settings {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&path, text).map_err(failed)?;
        fs::write(data.join("standby.signal"), "").map_err(failed)?;
        if let Some((uid, gid)) = self.owner {
            for file in ["standby.signal", "backup_label"] {
                chown(data.join(file), Some(uid), Some(gid)).map_err(failed)?;
            }
        }
        standby.keeper = Some(standby.keep()?);
        standby.boot_anywhere()?;
        Ok(standby)
    }

    /// The first start, on another port where somebody has taken the one that was free a moment ago.
    fn boot_anywhere(&mut self) -> Result<()> {
        for _ in 0..4 {
            match self.boot() {
                Err(error) if error.screen().contains("Address already in use") => self.port = free_port()?,
                other => return other,
            }
            let failed = |e| Error::config("cannot set PostgreSQL's port").with_source(e);
            let path = self.data_dir().join("postgresql.conf");
            let mut conf = fs::OpenOptions::new().append(true).open(path).map_err(failed)?;
            // The last one counts.
            writeln!(conf, "port = {}", self.port).map_err(failed)?;
            fs::remove_file(self.root.path().join("server.log")).map_err(failed)?;
        }
        self.boot()
    }

    /// Copies the running server's data directory as a base backup, without its replication slots.
    fn back_up(&self, to: &Path) -> Result<()> {
        let version = self.psql("postgres", "SHOW server_version_num")?;
        let (start, stop) = match version.trim().parse::<u32>() {
            Ok(150_000..) => ("pg_backup_start('standby', true)", "pg_backup_stop(false)"),
            _ => ("pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)"),
        };
        let (from, to) = (self.data_dir(), to.display());
        let from = from.display();
        // The backup lasts as long as its session, so the session copies. WAL that the copy misses comes by
        // streaming.
        let script = format!(
            "SELECT {start};\n\\! cp -a '{from}' '{to}'\n\
             \\! rm -rf '{to}'/postmaster.pid '{to}'/pg_replslot/*\n\
             \\o '{to}/backup_label'\nSELECT labelfile FROM {stop};\n"
        );
        self.psql("postgres", &script).map(|_| ())
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.root.path()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Where the server programs lie (`pg_recvlogical`, `pgbench`, …).
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// A connection URL for tokio-postgres and psql, as the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A client program: the server's own, or, since some packages hold the server alone, the one on the PATH.
    fn client(&self, program: &str) -> PathBuf {
        let own = self.bin.join(program);
        if own.is_file() { own } else { PathBuf::from(program) }
    }

    /// Runs SQL text with psql in a database; stops at the first error. Returns standard output
    /// (unaligned, tuples only).
    ///
    /// # Errors
    /// With psql's message when a statement fails.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut child = Command::new(self.client("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-f", "-"])
            .env("PGOPTIONS", "--client-min-messages=warning")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Error::config("cannot start psql").with_source(e))?;
        let mut stdin = child.stdin.take().ok_or_else(|| Error::internal("psql has no standard input"))?;
        let text = sql.to_owned();
        let feeder = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output =
            child.wait_with_output().map_err(|e| Error::internal("psql did not end").with_source(e))?;
        // psql may stop reading at the first error: its own message is the one that counts.
        let _ = feeder.join();
        checked(output, "psql").map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
    }

    /// Runs a file with psql in a database; stops at the first error.
    ///
    /// # Errors
    /// With psql's message when a statement fails.
    pub fn psql_file(&self, database: &str, file: &Path) -> Result<()> {
        let output = Command::new(self.client("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-f"])
            .arg(file)
            .env("PGOPTIONS", "--client-min-messages=warning")
            .stdin(Stdio::null())
            .output()
            .map_err(|e| Error::config("cannot start psql").with_source(e))?;
        checked(output, "psql").map(|_| ())
    }

    /// Stops the server (`-m fast`, or `immediate`, which is a crash), keeping its data.
    ///
    /// # Errors
    /// When pg_ctl fails.
    pub fn stop(&mut self, immediate: bool) -> Result<()> {
        if !self.running {
            return Ok(());
        }
        self.running = false;
        let mode = if immediate { "immediate" } else { "fast" };
        let data = self.data_dir().into_os_string();
        let args = ["-w".into(), "-D".into(), data, "-m".into(), mode.into(), "stop".into()];
        self.run("pg_ctl", &args).map(|_| ())
    }

    /// Starts the server again on the same port after [`Self::stop`].
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(&mut self) -> Result<()> {
        let log = self.root.path().join("server.log").into_os_string();
        let data = self.data_dir().into_os_string();
        let args = [
            "-w".into(),
            "-t".into(),
            "60".into(),
            "-D".into(),
            data,
            "-l".into(),
            log.clone(),
            "start".into(),
        ];
        if let Err(error) = self.run("pg_ctl", &args) {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(8).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            return Err(error.because(tail.join("\n       ")));
        }
        self.running = true;
        Ok(())
    }

    fn init(&self, options: &PostgresOptions) -> Result<()> {
        let root = self.root.path();
        let failed = |e: std::io::Error| Error::config("cannot set up a PostgreSQL directory").with_source(e);
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        if let Some((uid, gid)) = self.owner {
            chown(root, Some(uid), Some(gid)).map_err(failed)?;
        }
        let data = self.data_dir();
        self.run(
            "initdb",
            &[
                "-D".into(),
                data.clone().into_os_string(),
                "-U".into(),
                "postgres".into(),
                "-A".into(),
                "trust".into(),
                "-E".into(),
                "UTF8".into(),
                "--locale=C.UTF-8".into(),
                "--no-sync".into(),
            ],
        )?;
        let fsync = if options.fsync { "on" } else { "off" };
        let mut conf = format!(
            "\nlisten_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             wal_level = logical\nmax_wal_senders = 20\nmax_replication_slots = 20\nmax_connections = 100\n\
             timezone = 'UTC'\nlog_timezone = 'UTC'\nmax_prepared_transactions = 10\nfsync = {fsync}\n\
             shared_buffers = 64MB\n",
            self.port,
            root.display()
        );
        for line in &options.settings {
            conf.push_str(line);
            conf.push('\n');
        }
        let path = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&path).map_err(failed)?;
        text.push_str(&conf);
        fs::write(&path, text).map_err(failed)?;
        if !options.hba.is_empty() {
            let path = data.join("pg_hba.conf");
            let old = fs::read_to_string(&path).map_err(failed)?;
            fs::write(&path, format!("{}\n{old}", options.hba.join("\n"))).map_err(failed)?;
        }
        Ok(())
    }

    fn keep(&self) -> Result<Child> {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(&self.bin).arg(self.root.path());
        // Not in the directory that it removes, and out of reach of a terminal's Ctrl-C.
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command.spawn().map_err(|e| Error::config("cannot start sh").with_source(e))
    }

    fn run(&self, program: &str, args: &[OsString]) -> Result<Output> {
        let mut command = Command::new(self.bin.join(program));
        command
            .args(args)
            .current_dir(self.root.path())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .process_group(0);
        // A bundle's modules (dblink) look for the bundle's own libpq.
        if let Some(lib) =
            self.bin.parent().map(|home| home.join("lib")).filter(|l| l.join("libpq.so.5").exists())
        {
            command.env("LD_LIBRARY_PATH", lib);
        }
        if program == "pg_ctl" {
            // The server inherits pg_ctl's pipes and would keep them open for ever.
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        let output =
            command.output().map_err(|e| Error::config(format!("cannot start {program}")).with_source(e))?;
        checked(output, program)
    }
}

impl Drop for TemporaryPostgres {
    fn drop(&mut self) {
        // Immediate: the directory is removed next, nothing needs a clean shutdown.
        let _ = self.stop(true);
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

fn checked(output: Output, program: &str) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(Error::config(format!("{program} failed")).because(message.trim()))
}

/// A TCP port of 127.0.0.1 that is free now.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .map_err(|e| Error::config("no free TCP port on 127.0.0.1").with_source(e))
}

/// Where `initdb` lies: `$PGBIN`, the newest of Debian's `/usr/lib/postgresql/*/bin` that has a server, then `$PATH`.
///
/// # Errors
/// When there is none, with the command that installs it.
pub fn find_server_programs() -> Result<PathBuf> {
    let has_server = |dir: &Path| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    if let Some(dir) = std::env::var_os("PGBIN").filter(|v| !v.is_empty()) {
        let dir = PathBuf::from(dir);
        return if has_server(&dir) {
            Ok(dir)
        } else {
            Err(Error::config(format!("PGBIN is {}, but initdb and postgres are not there", dir.display()))
                .next("point PGBIN at a PostgreSQL server's bin directory, or unset it"))
        };
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, dir)| has_server(dir))
        .collect();
    versions.sort();
    if let Some((_, dir)) = versions.pop() {
        return Ok(dir);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|dir| has_server(dir)).ok_or_else(|| {
        Error::config("no PostgreSQL server programs were found")
            .because("initdb and postgres are neither in /usr/lib/postgresql nor on the PATH")
            .next("apt-get install postgresql, or set PGBIN to a server's bin directory")
    })
}

/// The user to run servers as when this process is root: `postgres`, else `nobody`.
fn service_user() -> Option<(u32, u32)> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    };
    find("postgres").or_else(|| find("nobody")).or(Some((65534, 65534)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind() {
        let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        let (directory, port) = (server.socket_dir().to_owned(), server.port());
        drop(server);
        assert!(!directory.exists());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }

    #[test]
    fn a_port_that_is_taken_meanwhile_is_left_to_others() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        let server = TemporaryPostgres::start_on(&PostgresOptions::default(), taken).unwrap();
        assert_ne!(server.port(), taken);
        assert_eq!(server.psql("postgres", "show port").unwrap().trim(), server.port().to_string());
        std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    }

    #[test]
    fn a_server_starts_answers_and_survives_a_crash() {
        let mut server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        server.psql("postgres", "create table t(x int); insert into t values (42)").unwrap();
        server.stop(true).unwrap();
        server.boot().unwrap();
        assert_eq!(server.psql("postgres", "select x from t").unwrap().trim(), "42");
        assert_eq!(server.psql("postgres", "show wal_level").unwrap().trim(), "logical");
        let error = server.psql("postgres", "select * from nowhere").unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}

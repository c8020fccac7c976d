//! `millstream doctor`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::GlobalArgs;
use crate::config::ConnectorConfig;
use crate::config::settings::Settings;
use crate::doctor::{self, Level, Part};
use crate::engine::plan::{Op, TableRef};
use crate::error::{Error, Result};
use crate::runtime::job::Job;

/// Arguments of `millstream doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is changed: source, log and targets are only asked. Each finding comes with the statements that mend it. \
Ends with 1 when something would keep a connector or pipeline from running.")]
pub struct Args {
    /// Connector files (.json) and pipelines (.sql); those of `millstream run` where none is given
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Settings file of the service
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Connectors and pipelines that a command is about.
pub(super) struct Files {
    pub(super) settings: Settings,
    pub(super) connectors: Vec<(PathBuf, ConnectorConfig)>,
    pub(super) jobs: Vec<(PathBuf, Job)>,
}

impl Files {
    /// Those given, else those that the service runs.
    pub(super) fn read(given: &[PathBuf], config: Option<&Path>) -> Result<Self> {
        let settings = Settings::of(config)?;
        let mut files = given.to_vec();
        if files.is_empty() {
            let base = config.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
            files = Settings::files(&base, &settings.connectors)?;
            files.extend(Settings::files(&base, &settings.pipelines)?);
        }
        if files.is_empty() {
            return Err(Error::config("there is nothing to look at")
                .because("no file was given, and there are no connectors/*.json and pipelines/*.sql here")
                .next("millstream doctor connector.json pipeline.sql"));
        }
        let (mut connectors, mut jobs) = (Vec::new(), Vec::new());
        for file in files {
            if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("sql")) {
                jobs.push((file.clone(), Job::from_file(&file)?));
            } else {
                connectors.push((file.clone(), ConnectorConfig::from_file(&file)?));
            }
        }
        Ok(Self { settings, connectors, jobs })
    }
}

/// The tables that a job writes by JDBC.
pub(super) fn targets(job: &Job) -> Vec<&TableRef> {
    let jdbc = |table: &&TableRef| table.options.get("connector").is_some_and(|c| c == "jdbc");
    job.script
        .plan
        .nodes
        .iter()
        .filter_map(|node| match &node.op {
            Op::Sink(table) => Some(table),
            _ => None,
        })
        .filter(jdbc)
        .collect()
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, or something was found that keeps a connector or pipeline from running.
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    let files = Files::read(&args.files, args.config.as_deref())?;
    let mut global = global.clone();
    global.log = global.log.or_else(|| files.settings.log.clone());
    global.data = files.settings.data.clone().unwrap_or(global.data);
    let mut addresses = global.addresses()?;
    for mapping in &files.settings.connect_to {
        addresses.push(mapping.parse()?);
    }
    let slots: Vec<String> = files.connectors.iter().map(|(_, c)| c.text("slot.name").to_owned()).collect();
    let mut parts = Vec::new();
    for (path, config) in &files.connectors {
        let database = config.database(&addresses, files.settings.security.tls)?;
        let findings = doctor::source(config, &database, &slots).await;
        parts.push(Part { part: "source", subject: path.display().to_string(), findings });
    }
    let url = global.log_url();
    let dir = url.strip_prefix("file:").map(|dir| PathBuf::from(dir.strip_prefix("//").unwrap_or(dir)));
    let log = if dir.as_ref().is_some_and(|dir| !dir.exists()) {
        // Opening an embedded log would make it; that is for the service to do.
        None
    } else {
        Some(global.look_at_log().await)
    };
    let findings = match &log {
        Some(log) => doctor::log(log, dir.as_deref()).await,
        None => doctor::new_log(dir.as_deref().unwrap_or(Path::new("."))),
    };
    parts.push(Part { part: "log", subject: url, findings });
    for (path, job) in &files.jobs {
        for table in targets(job) {
            let findings = doctor::target(table, &addresses).await;
            let subject = format!("{} (table {})", path.display(), table.name);
            parts.push(Part { part: "target", subject, findings });
        }
    }
    let count = |level| parts.iter().flat_map(|p| &p.findings).filter(|f| f.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    let text = if global.json {
        let parts: Vec<_> = parts.iter().map(Part::to_json).collect();
        format!("{}\n", json!({ "parts": parts, "problems": problems, "warnings": warnings }))
    } else {
        let mut text: String = parts.iter().map(Part::to_text).collect();
        text.push_str(&format!("{problems} problems, {warnings} warnings\n"));
        text
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    if problems > 0 {
        return Err(Error::refused(format!("{problems} problems stand in the way of a start"))
            .next("run the statements above, then millstream doctor again"));
    }
    Ok(())
}

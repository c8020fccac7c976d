//! `millstream topics`: what lies in the log.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::json;

use super::GlobalArgs;
use crate::error::{Error, Result};
use crate::log::{Log, Position, Record, TopicInfo, TopicPartition};

/// Arguments of `millstream topics`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the topics of the log
    List,
    /// Show a topic's partitions, offsets and configs
    Describe {
        /// The topic's name
        topic: String,
    },
    /// Print a topic's records, up to the present end or for ever
    #[command(after_help = "Examples:
  millstream topics read shop.public.customers
  millstream topics read shop.public.customers --from -5
  millstream topics read shop.public.customers --from 2026-01-31T12:00:00Z --follow
  millstream topics read shop.public.customers --jsonl | jq '.value|fromjson'")]
    Read(Read),
}

/// Arguments of `millstream topics read`.
#[derive(Debug, clap::Args)]
struct Read {
    /// The topic's name
    topic: String,
    /// Where to begin: earliest, latest, an offset, -N for the last N of each partition, or a time
    /// (2026-01-31, 2026-01-31 12:00:00 in UTC, 2026-01-31T12:00:00+01:00)
    #[arg(long, default_value = "earliest", allow_hyphen_values = true, value_name = "WHERE")]
    from: String,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// End after so many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Go on with new records until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// A JSON object a line: topic, partition, offset, timestamp (ms), key, value, headers. Keys and values are
    /// strings or null; bytes that are no text are {"base64": "…"}
    #[arg(long)]
    jsonl: bool,
}

/// Runs the command.
///
/// # Errors
/// A log that cannot be opened, a topic that does not exist, a position that is none.
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    let log = global.look_at_log().await?;
    match args.command {
        Command::List => list(&*log, global.json).await,
        Command::Describe { topic } => describe(&*log, &topic, global.json).await,
        Command::Read(read) => {
            let jsonl = read.jsonl || global.json;
            print_records(&log, &read, jsonl).await
        }
    }
}

async fn list(log: &dyn Log, json: bool) -> Result<()> {
    let mut infos = Vec::new();
    for name in log.topics().await? {
        // One that was deleted a moment ago is none.
        infos.extend(log.topic(&name).await?);
    }
    if json {
        let all: Vec<_> = infos.iter().map(info_json).collect();
        return line(&json!(all));
    }
    if infos.is_empty() {
        return text(&format!("no topics in {}", log.describe()));
    }
    let width = infos.iter().map(|i| i.name.len()).max().unwrap_or(0).max(5);
    let mut out = format!("{:width$}  {:>10}  {:>12}  cleanup\n", "topic", "partitions", "offsets");
    for info in &infos {
        let policy = info.configs.get("cleanup.policy").map_or("delete", String::as_str);
        let partitions = info.partitions.len();
        out.push_str(&format!("{:width$}  {partitions:>10}  {:>12}  {policy}\n", info.name, offsets(info)));
    }
    text(out.trim_end())
}

/// How many offsets lie between the earliest and the end; a bound for the number of records.
fn offsets(info: &TopicInfo) -> i64 {
    info.partitions.iter().map(|p| p.end - p.earliest).sum()
}

fn info_json(info: &TopicInfo) -> serde_json::Value {
    let partitions = info.partitions.iter().enumerate();
    json!({
        "topic": info.name,
        "partitions": partitions.map(|(n, p)| json!({ "partition": n, "earliest": p.earliest, "end": p.end })).collect::<Vec<_>>(),
        "configs": info.configs,
    })
}

async fn describe(log: &dyn Log, name: &str, json: bool) -> Result<()> {
    let info = find(log, name).await?;
    if json {
        return line(&info_json(&info));
    }
    let mut out = format!("topic {}\n\npartition      earliest           end\n", info.name);
    for (n, p) in info.partitions.iter().enumerate() {
        out.push_str(&format!("{n:>9}  {:>12}  {:>12}\n", p.earliest, p.end));
    }
    for (name, value) in &info.configs {
        out.push_str(&format!("\n{name} = {value}"));
    }
    text(out.trim_end())
}

async fn find(log: &dyn Log, name: &str) -> Result<TopicInfo> {
    if let Some(info) = log.topic(name).await? {
        return Ok(info);
    }
    let error = Error::refused(format!("topic {name} does not exist in {}", log.describe()));
    let names = log.topics().await?;
    let near = names.iter().min_by_key(|t| strsim::damerau_levenshtein(t, name));
    Err(match near.filter(|t| strsim::damerau_levenshtein(t, name) <= 2 + name.len() / 4) {
        Some(near) => error.next(format!("did you mean {near}?")),
        None => error.next("millstream topics list shows those that exist"),
    })
}

/// Where `--from` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    At(Position),
    Last(i64),
}

fn parse_from(text: &str) -> Result<From> {
    match text {
        "earliest" => return Ok(From::At(Position::Earliest)),
        "latest" => return Ok(From::At(Position::Latest)),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(if number < 0 {
            From::Last(number.saturating_neg())
        } else {
            From::At(Position::Offset(number))
        });
    }
    let time = DateTime::parse_from_rfc3339(text).map(|t| t.with_timezone(&Utc)).ok().or_else(|| {
        let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"];
        let date_time = formats.iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok());
        let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
        date_time.or_else(date).map(|t| t.and_utc())
    });
    time.map(|t| From::At(Position::Timestamp(t.timestamp_millis()))).ok_or_else(|| {
        Error::config(format!("--from {text:?} is no position"))
            .next("use earliest, latest, an offset, -N for the last N, or a time as 2026-01-31T12:00:00Z")
    })
}

async fn print_records(log: &Arc<dyn Log>, args: &Read, jsonl: bool) -> Result<()> {
    let from = parse_from(&args.from)?;
    let info = find(&**log, &args.topic).await?;
    let mut reader = log.reader().await?;
    // Where each partition ends now: without --follow that is where we stop.
    let mut open: HashMap<i32, i64> = HashMap::new();
    for (number, range) in info.partitions.iter().enumerate() {
        let partition = i32::try_from(number).unwrap_or(i32::MAX);
        if args.partition.is_some_and(|p| p != partition) {
            continue;
        }
        let at = TopicPartition::new(args.topic.as_str(), partition);
        let offset = match from {
            From::Last(count) => (range.end - count).max(range.earliest),
            // Of several partitions not every one holds every offset.
            From::At(Position::Offset(offset)) if info.partitions.len() > 1 => {
                offset.clamp(range.earliest, range.end)
            }
            From::At(position) => log.resolve(&at, position).await?,
        };
        if offset < range.end {
            open.insert(partition, range.end);
        }
        if offset < range.end || args.follow {
            reader.assign(at, offset).await?;
        } else if offset > range.end {
            return Err(Error::refused(format!("topic {} has no offset {offset}", args.topic)).because(
                format!("partition {partition} holds offsets {} to {}", range.earliest, range.end - 1),
            ));
        }
    }
    if let Some(partition) =
        args.partition.filter(|p| usize::try_from(*p).map_or(true, |p| p >= info.partitions.len()))
    {
        return Err(Error::refused(format!("topic {} has no partition {partition}", args.topic))
            .because(format!("it has {} partitions, from 0 on", info.partitions.len())));
    }
    let stop = super::stop_signal();
    tokio::pin!(stop);
    let mut out = BufWriter::new(std::io::stdout());
    let mut left = args.max.unwrap_or(u64::MAX);
    while left > 0 && (args.follow || !open.is_empty()) {
        let fetched = tokio::select! {
            fetched = reader.poll(1 << 20, Duration::from_secs(1)) => fetched?,
            _ = &mut stop => break,
        };
        for record in fetched.iter() {
            let beyond =
                !args.follow && open.get(&record.at.partition).is_none_or(|end| record.offset >= *end);
            if beyond || left == 0 {
                continue;
            }
            left -= 1;
            let written = if jsonl { write_json(&mut out, &record) } else { write_text(&mut out, &record) };
            if !still_read(written)? {
                return Ok(());
            }
        }
        for (at, next) in fetched.next_offsets() {
            if open.get(&at.partition).is_some_and(|end| next >= end) {
                open.remove(&at.partition);
            }
        }
        if !still_read(out.flush())? {
            return Ok(());
        }
    }
    Ok(())
}

/// `false` when nobody reads standard output any more (`| head`), which is no failure.
fn still_read(written: std::io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::config("cannot write to standard output").with_source(e)),
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Bytes<'a> {
    Text(&'a str),
    Base64 { base64: String },
}

fn bytes(bytes: &[u8]) -> Bytes<'_> {
    use base64::Engine as _;
    match std::str::from_utf8(bytes) {
        Ok(text) => Bytes::Text(text),
        Err(_) => Bytes::Base64 { base64: base64::engine::general_purpose::STANDARD.encode(bytes) },
    }
}

#[derive(Serialize)]
struct HeaderLine<'a> {
    key: Bytes<'a>,
    value: Option<Bytes<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Bytes<'a>>,
    value: Option<Bytes<'a>>,
    headers: Vec<HeaderLine<'a>>,
}

fn write_json(out: &mut impl Write, record: &Record<'_>) -> std::io::Result<()> {
    let line = Line {
        topic: &record.at.topic,
        partition: record.at.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(bytes),
        value: record.value.map(bytes),
        headers: record.headers().map(|(k, v)| HeaderLine { key: bytes(k), value: v.map(bytes) }).collect(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// One line for people: place, time, key, value, headers.
fn write_text(out: &mut impl Write, record: &Record<'_>) -> std::io::Result<()> {
    let time = DateTime::from_timestamp_millis(record.timestamp)
        .map_or_else(|| record.timestamp.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::Millis, true));
    write!(out, "{}:{}:{}  {time}  ", record.at.topic, record.at.partition, record.offset)?;
    write_part(out, record.key)?;
    out.write_all(b"  ")?;
    write_part(out, record.value)?;
    for (name, value) in record.headers() {
        out.write_all(b"  ")?;
        write_part(out, Some(name))?;
        out.write_all(b"=")?;
        write_part(out, value)?;
    }
    out.write_all(b"\n")
}

/// Text without line breaks and control characters, so that a record stays a line.
fn write_part(out: &mut impl Write, part: Option<&[u8]>) -> std::io::Result<()> {
    let Some(part) = part else { return out.write_all(b"null") };
    match std::str::from_utf8(part) {
        Ok(text) if !text.contains(char::is_control) => out.write_all(part),
        Ok(text) => text.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(out, "{}", c.escape_default()),
            c => write!(out, "{c}"),
        }),
        Err(_) => part.iter().try_for_each(|b| write!(out, "{b:02x}")),
    }
}

fn text(text: &str) -> Result<()> {
    still_read(writeln!(std::io::stdout(), "{text}")).map(drop)
}

fn line(value: &serde_json::Value) -> Result<()> {
    text(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read() {
        let at = |text: &str| parse_from(text).unwrap();
        assert_eq!(at("earliest"), From::At(Position::Earliest));
        assert_eq!(at("17"), From::At(Position::Offset(17)));
        assert_eq!(at("-3"), From::Last(3));
        for text in
            ["2026-01-31T12:00:00Z", "2026-01-31 12:00:00", "2026-01-31T13:00:00+01:00", "2026-01-31 12:00"]
        {
            assert_eq!(at(text), From::At(Position::Timestamp(1_769_860_800_000)), "{text}");
        }
        assert_eq!(at("2026-01-31"), From::At(Position::Timestamp(1_769_817_600_000)));
        assert!(parse_from("soon").is_err());
    }

    #[test]
    fn lines_hold_all_parts() {
        let mut fetched = crate::log::Fetched::default();
        let at = Arc::new(TopicPartition::new("t", 2));
        let headers = [(&b"h"[..], Some(&b"1"[..])), (&b"n"[..], None)];
        fetched.push(&at, 7, 1000, Some(b"k"), Some(b"a\n\"b"), headers.into_iter());
        fetched.push(&at, 8, 1001, Some(&[0xff, 0]), None, std::iter::empty());
        let mut out = Vec::new();
        for record in fetched.iter() {
            write_json(&mut out, &record).unwrap();
            write_text(&mut out, &record).unwrap();
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"topic\":\"t\",\"partition\":2,\"offset\":7,\"timestamp\":1000,\"key\":\"k\",\"value\":\"a\\n\\\"b\",\
             \"headers\":[{\"key\":\"h\",\"value\":\"1\"},{\"key\":\"n\",\"value\":null}]}\n\
             t:2:7  1970-01-01T00:00:01.000Z  k  a\\n\"b  h=1  n=null\n\
             {\"topic\":\"t\",\"partition\":2,\"offset\":8,\"timestamp\":1001,\"key\":{\"base64\":\"/wA=\"},\"value\":null,\"headers\":[]}\n\
             t:2:8  1970-01-01T00:00:01.001Z  ff00  null\n"
        );
    }
}

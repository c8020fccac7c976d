//! Signals: rows of the signal table that tell a running connector to do something.

use fancy_regex::Regex;
use serde_json::Value;

use crate::java::regex_list::{self, InvalidRegex, RegexList};

/// A signal as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) data: Option<String>,
}

/// What a signal asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// Write a line into the program's log; `{}` stands for the offset.
    Log(String),
    /// Read tables again beside the stream.
    Incremental(Request),
    /// Read tables again while the stream waits.
    Blocking(Request),
    /// Give up running incremental snapshots of these tables; none named: of all.
    Stop(Option<RegexList>),
    /// Stop reading after the present chunk.
    Pause,
    /// Go on.
    Resume,
    /// The window of a chunk begins, or ends (`true`); written by the connector itself.
    Window(bool),
}

/// One entry of `data-collections`.
#[derive(Debug)]
pub(super) struct Expression {
    /// As written.
    pub(super) text: String,
    regex: Regex,
}

impl Expression {
    /// A Java regular expression for the whole of a table's name. For an incremental snapshot case counts, for a
    /// blocking one it does not, as in Debezium.
    fn parse(text: &str, any_case: bool) -> Result<Self, String> {
        let compile = if any_case { regex_list::any_case } else { regex_list::whole };
        Ok(Self { text: text.to_owned(), regex: compile(text).map_err(wrong)? })
    }

    pub(super) fn matches(&self, table: &str) -> bool {
        self.regex.is_match(table).unwrap_or(false)
    }
}

/// Which tables to read, and how.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) tables: Vec<Expression>,
    /// Table expression and filter: an SQL condition, for a blocking snapshot a whole SELECT.
    pub(super) filters: Vec<(RegexList, String)>,
    /// Column to read an incremental snapshot's chunks by, instead of the key.
    pub(super) surrogate: Option<String>,
}

impl Request {
    /// The filter for a table, the first that fits.
    pub(super) fn filter(&self, table: &str) -> Option<&str> {
        self.filters.iter().find(|(p, _)| p.matches(table)).map(|(_, f)| f.as_str())
    }
}

impl Signal {
    /// Reads what is asked for.
    pub(super) fn command(&self) -> Result<Command, String> {
        let data: Value = match self.data.as_deref().map(str::trim).filter(|d| !d.is_empty()) {
            None => Value::Null,
            Some(text) => serde_json::from_str(text).map_err(|e| format!("its data is not JSON: {e}"))?,
        };
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        let kind = text("type").unwrap_or("incremental").to_ascii_lowercase();
        Ok(match self.kind.as_str() {
            "log" => Command::Log(text("message").unwrap_or("").to_owned()),
            "execute-snapshot" => {
                let request = request(&data, kind == "blocking")?;
                match kind.as_str() {
                    "incremental" => Command::Incremental(request),
                    "blocking" => Command::Blocking(request),
                    other => return Err(format!("there are no snapshots of type {other}")),
                }
            }
            "stop-snapshot" => Command::Stop(match data.get("data-collections") {
                None | Some(Value::Null) => None,
                Some(list) => Some(RegexList::parse(&names(list)?.join(",")).map_err(wrong)?),
            }),
            "pause-snapshot" => Command::Pause,
            "resume-snapshot" => Command::Resume,
            "snapshot-window-open" => Command::Window(false),
            "snapshot-window-close" => Command::Window(true),
            other => return Err(format!("its type {other} is not known")),
        })
    }
}

fn wrong(entry: InvalidRegex) -> String {
    format!("data-collections: {entry}")
}

fn names(list: &Value) -> Result<Vec<String>, String> {
    let wrong = || "data-collections is not a list of texts".to_owned();
    let list = list.as_array().ok_or_else(wrong)?;
    list.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

fn pattern(text: &str) -> Result<RegexList, String> {
    RegexList::parse(text).map_err(wrong)
}

fn request(data: &Value, any_case: bool) -> Result<Request, String> {
    let tables = data.get("data-collections").ok_or("its data has no data-collections")?;
    let tables =
        names(tables)?.iter().map(|t| Expression::parse(t, any_case)).collect::<Result<Vec<_>, _>>()?;
    let mut filters = Vec::new();
    for condition in data.get("additional-conditions").and_then(Value::as_array).into_iter().flatten() {
        let get = |name: &str| condition.get(name).and_then(Value::as_str);
        if let (Some(table), Some(filter)) =
            (get("data-collection"), get("filter").filter(|f| !f.trim().is_empty()))
        {
            filters.push((pattern(table)?, filter.to_owned()));
        }
    }
    let surrogate = data.get("surrogate-key").and_then(Value::as_str).filter(|s| !s.is_empty());
    Ok(Request { tables, filters, surrogate: surrogate.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(kind: &str, data: &str) -> Result<Command, String> {
        Signal { id: "1".into(), kind: kind.into(), data: Some(data.into()) }.command()
    }

    #[test]
    fn commands_are_read() {
        let text = r#"{"data-collections": ["app.items", "app\\.m.*"], "additional-conditions":
            [{"data-collection": "app.more", "filter": ""}, {"data-collection": "app.items", "filter": "id > 5"}]}"#;
        let Ok(Command::Incremental(request)) = signal("execute-snapshot", text) else { panic!() };
        let matching = |name| request.tables.iter().filter(|t| t.matches(name)).count();
        assert_eq!((request.tables.len(), matching("app.more"), matching("app.More")), (2, 1, 0));
        assert_eq!((request.filter("app.items"), request.filter("app.more")), (Some("id > 5"), None));
        let text = r#"{"type":"BLOCKING","data-collections":["a.b"]}"#;
        let Ok(Command::Blocking(request)) = signal("execute-snapshot", text) else { panic!() };
        assert!(request.tables[0].matches("A.B"));
        assert!(matches!(signal("stop-snapshot", "{}"), Ok(Command::Stop(None))));
        assert!(signal("execute-snapshot", "{}").unwrap_err().contains("data-collections"));
        assert!(signal("dance", "").unwrap_err().contains("dance"));
        assert!(signal("log", "{").unwrap_err().contains("JSON"));
    }
}

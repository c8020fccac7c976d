//! Kafka Connect's REST API over the [`Worker`], with its status codes, bodies and messages.
//!
//! Where Connect answers 500 for a client's mistake, this answers 400 and names the mistake.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::negotiation::{self, around};
use super::request;
use crate::connect::loggers::Loggers;
use crate::connect::model::{ConnectorInfo, ConnectorState, TargetState};
use crate::connect::plugins::Unknown;
use crate::connect::{ApiError, Worker};

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Api {
    /// The worker.
    pub worker: Arc<Worker>,
    /// Log levels.
    pub loggers: Arc<Loggers>,
}

type Answer = Result<Response, ApiError>;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        body(status, &json!({ "error_code": self.status, "message": self.message }))
    }
}

fn body(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn ok(value: &impl Serialize) -> Response {
    body(StatusCode::OK, value)
}

/// The routes of Kafka Connect's REST API.
pub fn routes(api: Api) -> Router {
    let json = negotiation::json::<Api>;
    let routes = Router::new()
        .route("/", json(get(root)))
        .route("/health", json(get(health)))
        .route("/health/live", get(super::health::live))
        .route("/health/ready", get(super::health::ready))
        .route("/metrics", get(super::metrics::metrics))
        .route("/connectors", json(get(list).post(create)))
        .route("/connectors/{name}", json(get(info).delete(delete)))
        .route("/connectors/{name}/config", json(get(config).put(put_config).patch(patch_config)))
        .route("/connectors/{name}/status", json(get(status)))
        .route("/connectors/{name}/restart", json(post(restart)))
        .route("/connectors/{name}/pause", json(put(pause)))
        .route("/connectors/{name}/resume", json(put(resume)))
        .route("/connectors/{name}/stop", json(put(stop)))
        .route("/connectors/{name}/tasks", json(get(tasks)))
        .route("/connectors/{name}/tasks/{task}/status", json(get(task_status)))
        .route("/connectors/{name}/tasks/{task}/restart", json(post(restart_task)))
        .route("/connectors/{name}/topics", json(get(topics)))
        .route("/connectors/{name}/topics/reset", json(put(reset_topics)))
        .route("/connectors/{name}/offsets", json(get(offsets).patch(alter_offsets).delete(reset_offsets)))
        .route("/connector-plugins", json(get(plugins)))
        .route("/connector-plugins/{plugin}/config", json(get(plugin_config)))
        .route("/connector-plugins/{plugin}/config/validate", json(put(validate)))
        .route("/admin/loggers", json(get(loggers)))
        .route("/admin/loggers/{logger}", json(get(logger).put(set_logger)))
        .fallback(|| async { ApiError::new(404, "HTTP 404 Not Found") })
        .method_not_allowed_fallback(|| async { ApiError::new(405, "HTTP 405 Method Not Allowed") })
        .with_state(api);
    around(routes)
}

/// A query parameter's values, percent-decoded.
fn query(raw: Option<&str>, name: &str) -> Vec<String> {
    raw.unwrap_or_default()
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name)
                .then(|| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
        })
        .collect()
}

fn flag(raw: Option<&str>, name: &str) -> Option<bool> {
    query(raw, name).first().map(|value| value.eq_ignore_ascii_case("true"))
}

fn location(name: &str) -> String {
    // Connect writes the name as a part of a path: what is a separator or encoded already stays.
    const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'!')
        .remove(b'$')
        .remove(b'&')
        .remove(b'\'')
        .remove(b'(')
        .remove(b')')
        .remove(b'*')
        .remove(b'+')
        .remove(b',')
        .remove(b'/')
        .remove(b';')
        .remove(b'=')
        .remove(b':')
        .remove(b'@');
    let mut location = "/connectors/".to_owned();
    for (number, part) in name.split('%').enumerate() {
        if number > 0 {
            let encoded = part.as_bytes().get(..2).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit));
            location.push_str(if encoded { "%" } else { "%25" });
        }
        location.extend(percent_encoding::utf8_percent_encode(part, PATH));
    }
    location
}

async fn root(State(api): State<Api>) -> Answer {
    Ok(ok(&json!({
        "version": crate::connect::KAFKA_VERSION,
        "commit": crate::connect::COMMIT,
        "kafka_cluster_id": api.worker.cluster_id(),
    })))
}

async fn health() -> Answer {
    Ok(ok(&json!({
        "status": "healthy",
        "message": "Worker has completed startup and is ready to handle requests.",
    })))
}

async fn list(State(api): State<Api>, RawQuery(raw): RawQuery) -> Answer {
    let expand = query(raw.as_deref(), "expand");
    let progress = wants_progress(raw.as_deref());
    let names = api.worker.names().await;
    if expand.is_empty() {
        return Ok(ok(&names));
    }
    let mut all = Map::new();
    'names: for name in names {
        let mut one = Map::new();
        for what in &expand {
            let part = match what.as_str() {
                "info" => api.worker.info(&name).await.map(serde_json::to_value),
                "status" => state(&api, &name, progress).await.map(serde_json::to_value),
                _ => continue,
            };
            match part {
                Ok(part) => one.insert(what.clone(), part.map_err(|e| ApiError::new(500, e.to_string()))?),
                // Deleted just now.
                Err(error) if error.status == 404 => continue 'names,
                Err(error) => return Err(error),
            };
        }
        all.insert(name, Value::Object(one));
    }
    Ok(ok(&all))
}

async fn create(State(api): State<Api>, bytes: Bytes) -> Answer {
    let request::Creation { name, config, state } = request::creation(&bytes)?;
    let target = match state {
        None => TargetState::Started,
        Some(state) => TargetState::from_initial(&state).ok_or_else(|| {
            ApiError::new(400, format!("'initial_state' is {state}: RUNNING, PAUSED or STOPPED is expected"))
        })?,
    };
    Ok(created(&api.worker.create(&name, config, target).await?))
}

fn created(info: &ConnectorInfo) -> Response {
    let mut response = body(StatusCode::CREATED, info);
    if let Ok(value) = location(&info.name).parse() {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

async fn info(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    Ok(ok(&api.worker.info(&name).await?))
}

async fn config(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    Ok(ok(&api.worker.info(&name).await?.config))
}

async fn put_config(State(api): State<Api>, Path(name): Path<String>, bytes: Bytes) -> Answer {
    let config = request::config(&bytes, "the configuration")?;
    let (new, info) = api.worker.put_config(&name, config).await?;
    Ok(if new { created(&info) } else { ok(&info) })
}

async fn patch_config(State(api): State<Api>, Path(name): Path<String>, bytes: Bytes) -> Answer {
    let patch = request::config(&bytes, "the patch")?;
    Ok(ok(&api.worker.patch_config(&name, patch).await?))
}

async fn delete(State(api): State<Api>, Path(name): Path<String>, RawQuery(raw): RawQuery) -> Answer {
    let drop_slot = flag(raw.as_deref(), "dropSlot").unwrap_or(false);
    api.worker.delete(&name, drop_slot).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `expand=progress`, which Connect ignores, asks for how far a snapshot is and for warnings.
fn wants_progress(raw: Option<&str>) -> bool {
    query(raw, "expand").iter().any(|what| what == "progress")
}

async fn state(api: &Api, name: &str, progress: bool) -> Result<ConnectorState, ApiError> {
    let state = api.worker.status(name).await?;
    Ok(if progress { state } else { state.as_connect() })
}

async fn status(State(api): State<Api>, Path(name): Path<String>, RawQuery(raw): RawQuery) -> Answer {
    Ok(ok(&state(&api, &name, wants_progress(raw.as_deref())).await?))
}

async fn restart(State(api): State<Api>, Path(name): Path<String>, RawQuery(raw): RawQuery) -> Answer {
    let tasks = flag(raw.as_deref(), "includeTasks").unwrap_or(false);
    let failed = flag(raw.as_deref(), "onlyFailed").unwrap_or(false);
    let plan = api.worker.restart(&name, tasks, failed).await?;
    if !tasks && !failed {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(body(StatusCode::ACCEPTED, &plan.as_connect()))
}

async fn pause(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    api.worker.set_target(&name, TargetState::Paused).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn resume(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    api.worker.set_target(&name, TargetState::Started).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn stop(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    api.worker.set_target(&name, TargetState::Stopped).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn tasks(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    Ok(ok(&api.worker.tasks(&name).await?))
}

fn task_number(text: &str) -> Result<i32, ApiError> {
    // Connect's router matches numbers only.
    text.parse().map_err(|_| ApiError::new(404, "HTTP 404 Not Found"))
}

async fn task_status(
    State(api): State<Api>,
    Path((name, task)): Path<(String, String)>,
    RawQuery(raw): RawQuery,
) -> Answer {
    let task = task_number(&task)?;
    let missing = || ApiError::new(404, format!("No status found for task {name}-{task}"));
    let status = state(&api, &name, wants_progress(raw.as_deref())).await.map_err(|_| missing())?;
    let state = status.tasks.into_iter().find(|t| i64::from(t.id) == i64::from(task)).ok_or_else(missing)?;
    Ok(ok(&state))
}

async fn restart_task(State(api): State<Api>, Path((name, task)): Path<(String, String)>) -> Answer {
    api.worker.restart_task(&name, task_number(&task)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn topics(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    let topics = api.worker.topics(&name).await;
    Ok(ok(&json!({ name: { "topics": topics } })))
}

async fn reset_topics(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    api.worker.reset_topics(&name).await;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn offsets(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    let offsets: Vec<Value> = api
        .worker
        .offsets(&name)
        .await?
        .into_iter()
        .map(|(partition, offset)| json!({ "partition": partition, "offset": offset }))
        .collect();
    Ok(ok(&json!({ "offsets": offsets })))
}

const ALTERED: &str = "The Connect framework-managed offsets for this connector have been altered successfully. \
    However, if this connector manages offsets externally, they will need to be manually altered in the system \
    that the connector uses.";
const RESET: &str = "The Connect framework-managed offsets for this connector have been reset successfully. \
    However, if this connector manages offsets externally, they will need to be manually reset in the system \
    that the connector uses.";

async fn alter_offsets(State(api): State<Api>, Path(name): Path<String>, bytes: Bytes) -> Answer {
    let mut request = request::object(&bytes, &["offsets"])?;
    let entries = match request.remove("offsets") {
        Some(Value::Array(entries)) if !entries.is_empty() => entries,
        None | Some(Value::Null | Value::Array(_)) => {
            return Err(ApiError::new(
                400,
                "Partitions / offsets need to be provided for an alter offsets request",
            ));
        }
        Some(_) => return Err(ApiError::new(400, "'offsets' must be an array")),
    };
    api.worker.alter_offsets(&name, entries).await?;
    Ok(ok(&json!({ "message": ALTERED })))
}

async fn reset_offsets(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    api.worker.reset_offsets(&name).await?;
    Ok(ok(&json!({ "message": RESET })))
}

async fn plugins(RawQuery(raw): RawQuery) -> Answer {
    let connectors_only = flag(raw.as_deref(), "connectorsOnly").unwrap_or(true);
    Ok(ok(&crate::connect::plugins::list(connectors_only)))
}

async fn plugin_config(Path(plugin): Path<String>, RawQuery(raw): RawQuery) -> Answer {
    let version = query(raw.as_deref(), "version").into_iter().next();
    match crate::connect::plugins::definitions(&plugin, version.as_deref()) {
        Ok(definitions) => Ok(ok(&definitions)),
        Err(Unknown::Plugin) => Err(ApiError::new(404, format!("Unknown plugin {plugin}."))),
        Err(Unknown::Version(message)) => Err(ApiError::new(400, message)),
        Err(Unknown::Abstract(nested)) => Err(ApiError::new(
            400,
            format!("{plugin} is abstract and cannot be created. Did you mean {}?", nested.join(", ")),
        )),
    }
}

async fn validate(State(api): State<Api>, Path(plugin): Path<String>, bytes: Bytes) -> Answer {
    let config = request::config(&bytes, "the configuration")?;
    Ok(ok(&api.worker.validate(&plugin, config).await?))
}

async fn loggers(State(api): State<Api>) -> Answer {
    Ok(ok(&api.loggers.all()))
}

async fn logger(State(api): State<Api>, Path(logger): Path<String>) -> Answer {
    let level =
        api.loggers.get(&logger).ok_or_else(|| ApiError::new(404, format!("Logger {logger} not found.")))?;
    Ok(ok(&level))
}

async fn set_logger(
    State(api): State<Api>,
    Path(logger): Path<String>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Answer {
    let request = request::config(&bytes, "the request")?;
    let level = request
        .get("level")
        .and_then(Value::as_str)
        .ok_or_else(|| ApiError::new(400, "Desired 'level' parameter was not specified in request."))?;
    if level.is_empty() {
        return Err(ApiError::new(400, "Illegal null or empty Level name."));
    }
    let changed = api
        .loggers
        .set(&logger, level)
        .ok_or_else(|| ApiError::new(404, format!("invalid log level '{level}'.")))?;
    if query(raw.as_deref(), "scope").first().is_some_and(|scope| scope.eq_ignore_ascii_case("cluster")) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(ok(&changed))
}

#[cfg(test)]
mod tests {
    use super::location;

    #[test]
    fn locations_are_written_as_connect_writes_them() {
        for (name, path) in [
            ("a b", "a%20b"),
            ("ü", "%C3%BC"),
            ("slash/name", "slash/name"),
            ("per%cent", "per%cent"),
            ("5%", "5%25"),
        ] {
            assert_eq!(location(name), format!("/connectors/{path}"));
        }
    }
}

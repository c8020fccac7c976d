//! Pipelines over HTTP: what the control socket and the REST API serve.
//!
//! ```text
//! GET  /pipelines                  all of this process
//! GET  /pipelines/NAME             one
//! POST /pipelines                  {"name":…,"sql":…,"fresh":false}: start a script (in a service)
//! POST /pipelines/NAME/start       go on with a stopped one (in a service)
//! POST /pipelines/NAME/stop
//! POST /pipelines/NAME/savepoint   {"path":…}: the state into a file on the server
//! POST /pipelines/NAME/replay      {"from":["earliest"],"to":["present"],"dry_run":false}
//! ```

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::error::{Error, Kind};
use crate::replay::{Point, Range};
use crate::runtime::job::Job;
use crate::runtime::{PipelineStatus, host, registry};

/// The routes.
pub fn router() -> Router {
    Router::new()
        .route("/pipelines", get(all).post(create))
        .route("/pipelines/{name}", get(one))
        .route("/pipelines/{name}/start", post(start))
        .route("/pipelines/{name}/stop", post(stop))
        .route("/pipelines/{name}/savepoint", post(savepoint))
        .route("/pipelines/{name}/replay", post(replay))
}

/// A status as JSON.
pub fn status_json(status: &PipelineStatus) -> Value {
    json!({
        "name": status.name,
        "state": status.phase.name(),
        "causes": status.causes,
        "epoch": status.epoch,
        "records": status.records,
        "positions": status.positions,
        "newest_record": status.newest,
        "skipped": status.skipped.iter().map(|(table, skipped)| {
            (table.clone(), json!({"records": skipped.records, "last": skipped.last}))
        }).collect::<serde_json::Map<_, _>>(),
        "behind": status.behind,
        "sinks": status.sinks.iter().map(|s| json!({
            "name": s.name, "target": s.target, "epoch": s.epoch, "due": s.due, "rows": s.rows,
        })).collect::<Vec<_>>(),
        "warnings": status.warnings,
    })
}

fn failure(code: StatusCode, error: &Error) -> Response {
    let body = json!({
        "error_code": code.as_u16(),
        "message": error.to_string(),
        "what": error.what(),
        "cause": error.cause(),
        "next": error.next_step(),
    });
    (code, Json(body)).into_response()
}

fn unknown(name: &str) -> Response {
    failure(StatusCode::NOT_FOUND, &Error::config(format!("no pipeline {name} runs in this process")))
}

async fn all() -> Json<Value> {
    Json(registry::all().iter().map(|p| status_json(&p.status())).collect())
}

async fn one(Path(name): Path<String>) -> Response {
    match registry::get(&name) {
        Some(pipeline) => Json(status_json(&pipeline.status())).into_response(),
        None => unknown(&name),
    }
}

async fn stop(Path(name): Path<String>) -> Response {
    let Some(pipeline) = registry::get(&name) else { return unknown(&name) };
    match pipeline.stop().await {
        Ok(()) => Json(status_json(&pipeline.status())).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

#[derive(serde::Deserialize)]
struct CreateRequest {
    name: Option<String>,
    sql: String,
    #[serde(default)]
    fresh: bool,
}

async fn create(Json(request): Json<CreateRequest>) -> Response {
    let Some(host) = host::current() else { return no_service() };
    let name = request.name.as_deref().unwrap_or("pipeline");
    let started = match Job::from_text(&request.sql, name, "the request") {
        Ok(mut job) => {
            if let Some(name) = request.name {
                job.name = name;
            }
            host.start(&job, request.fresh).await
        }
        Err(error) => Err(error),
    };
    answer(started.map(|pipeline| status_json(&pipeline.status())))
}

async fn start(Path(name): Path<String>) -> Response {
    let Some(host) = host::current() else { return no_service() };
    answer(host.resume(&name).await.map(|pipeline| status_json(&pipeline.status())))
}

fn no_service() -> Response {
    let error = Error::new(Kind::Refused, "this process runs one pipeline and starts no others")
        .next("stop it, or run the pipelines in a service: `millstream run`");
    failure(StatusCode::CONFLICT, &error)
}

fn answer(result: Result<Value, Error>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) if matches!(error.kind(), Kind::Config | Kind::Data | Kind::Refused | Kind::Fenced) => {
            failure(StatusCode::BAD_REQUEST, &error)
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

#[derive(serde::Deserialize)]
struct SavepointRequest {
    path: std::path::PathBuf,
}

async fn savepoint(Path(name): Path<String>, Json(request): Json<SavepointRequest>) -> Response {
    let running = registry::get(&name).filter(|pipeline| !pipeline.status().phase.is_final());
    let Some(pipeline) = running else { return unknown(&name) };
    let written = pipeline.savepoint(request.path.clone()).await;
    answer(written.map(|bytes| json!({"path": request.path, "bytes": bytes})))
}

#[derive(serde::Deserialize)]
struct ReplayRequest {
    from: Vec<String>,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn replay(Path(name): Path<String>, Json(request): Json<ReplayRequest>) -> Response {
    let running = registry::get(&name).filter(|pipeline| !pipeline.status().phase.is_final());
    let points = |texts: &[String]| texts.iter().map(|t| t.parse::<Point>()).collect::<Result<Vec<_>, _>>();
    let range = points(&request.from)
        .and_then(|from| Ok(Range { from, to: points(&request.to)?, dry_run: request.dry_run }));
    let result = match (range, running, host::current()) {
        (Err(error), ..) => Err(error),
        (Ok(range), Some(pipeline), _) => crate::replay::replay(&pipeline, &range).await,
        (Ok(range), None, Some(host)) => host.replay_stopped(&name, &range).await,
        (Ok(_), None, None) => return unknown(&name),
    };
    answer(result.map(|report| json!(report)))
}

//! Pipelines over HTTP: what the control socket and the REST API serve.
//!
//! ```text
//! GET  /pipelines                  all of this process
//! GET  /pipelines/NAME             one
//! POST /pipelines/NAME/stop
//! POST /pipelines/NAME/replay      {"from":["earliest"],"to":["present"]}
//! ```

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::error::{Error, Kind};
use crate::replay::{Point, Range};
use crate::runtime::{PipelineStatus, registry};

/// The routes.
pub fn router() -> Router {
    Router::new()
        .route("/pipelines", get(all))
        .route("/pipelines/{name}", get(one))
        .route("/pipelines/{name}/stop", post(stop))
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
        "sinks": status.sinks.iter().map(|s| json!({
            "name": s.name, "target": s.target, "epoch": s.epoch, "rows": s.rows,
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
struct ReplayRequest {
    from: Vec<String>,
    #[serde(default)]
    to: Vec<String>,
}

async fn replay(Path(name): Path<String>, Json(request): Json<ReplayRequest>) -> Response {
    let Some(pipeline) = registry::get(&name) else { return unknown(&name) };
    let points = |texts: &[String]| texts.iter().map(|t| t.parse::<Point>()).collect::<Result<Vec<_>, _>>();
    let range = points(&request.from).and_then(|from| Ok(Range { from, to: points(&request.to)? }));
    let result = match range {
        Ok(range) => crate::replay::replay(&pipeline, &range).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(report) => Json(json!(report)).into_response(),
        Err(error) if matches!(error.kind(), Kind::Config | Kind::Data) => {
            failure(StatusCode::BAD_REQUEST, &error)
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

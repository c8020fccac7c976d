//! `/health/live` and `/health/ready`: whether the process answers, and whether everything that should run does.
//!
//! They answer without the API's token, so they name states and no causes.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::rest::Api;
use crate::connect::worker::Sample;
use crate::runtime::{Phase as PipelinePhase, registry};

/// Longest time to wait for the worker; one that holds its state longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

async fn samples(api: &Api) -> Option<Vec<Sample>> {
    tokio::time::timeout(PATIENCE, api.worker.samples()).await.ok()
}

/// 200 while the worker answers, 503 when it hangs: restart the process then.
pub(super) async fn live(State(api): State<Api>) -> Response {
    match samples(&api).await {
        Some(_) => Json(json!({ "status": "live" })).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "hanging" }))).into_response(),
    }
}

/// 200 when every connector and pipeline that should run does; 503 with those that do not.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    let Some(connectors) = samples(&api).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "hanging" }))).into_response();
    };
    let mut waiting: Vec<Value> = connectors
        .iter()
        .filter(|c| c.wanted && !c.status.as_ref().is_some_and(|s| s.phase.is_running()))
        .map(|c| json!({ "connector": c.name, "state": c.state }))
        .collect();
    for pipeline in registry::all() {
        let status = pipeline.status();
        let good = matches!(
            status.phase,
            PipelinePhase::Running | PipelinePhase::Held | PipelinePhase::Finished | PipelinePhase::Stopped
        );
        if !good {
            waiting.push(json!({ "pipeline": status.name, "state": status.phase.name() }));
        }
    }
    if waiting.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "not_running": waiting })))
        .into_response()
}

//! The embedded logs of this process over the control socket: what [`crate::log::remote`] asks.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;

use crate::error::{Error, Kind, Result};
use crate::log::embedded::{EmbeddedLog, frames};
use crate::log::remote::{Question, TopicAnswer};
use crate::log::{Log, Position, TopicPartition};

/// Read at most so much for one answer.
const MOST: usize = 16 << 20;

/// The routes.
pub fn router() -> Router {
    Router::new()
        .route("/log/topics", post(topics))
        .route("/log/topic", post(topic))
        .route("/log/resolve", post(resolve))
        .route("/log/read", post(read))
}

fn log(question: &Question) -> Result<EmbeddedLog> {
    EmbeddedLog::opened(&question.dir).ok_or_else(|| {
        Error::refused(format!("this process does not hold the log in {}", question.dir.display()))
    })
}

fn answer(result: Result<Response>) -> Response {
    match result {
        Ok(response) => response,
        Err(error) => {
            let code = match error.kind() {
                Kind::Internal | Kind::Transient | Kind::Stopped => StatusCode::INTERNAL_SERVER_ERROR,
                Kind::Config | Kind::Refused | Kind::Data | Kind::Fenced => StatusCode::BAD_REQUEST,
            };
            let body = json!({
                "error_code": code.as_u16(), "message": error.to_string(),
                "what": error.what(), "cause": error.cause(), "next": error.next_step(),
            });
            (code, Json(body)).into_response()
        }
    }
}

async fn topics(Json(question): Json<Question>) -> Response {
    let names = async { Ok(Json(log(&question)?.topics().await?).into_response()) };
    answer(names.await)
}

async fn topic(Json(question): Json<Question>) -> Response {
    let info = async {
        let info = log(&question)?.topic(&question.topic).await?;
        let told = info.map(|i| TopicAnswer {
            name: i.name,
            partitions: i.partitions.iter().map(|p| (p.earliest, p.end)).collect(),
            configs: i.configs,
        });
        Ok(Json(told).into_response())
    };
    answer(info.await)
}

async fn resolve(Json(question): Json<Question>) -> Response {
    let offset = async {
        let position = match question.position.as_str() {
            "earliest" => Position::Earliest,
            "latest" => Position::Latest,
            _ => Position::Timestamp(question.at),
        };
        let at = TopicPartition::new(question.topic.as_str(), question.partition);
        Ok(Json(log(&question)?.resolve(&at, position).await?).into_response())
    };
    answer(offset.await)
}

async fn read(Json(question): Json<Question>) -> Response {
    let records = async {
        let log = log(&question)?;
        let mut reader = log.reader().await?;
        for from in &question.assigned {
            reader.assign(TopicPartition::new(from.topic.as_str(), from.partition), from.offset).await?;
        }
        // Not for ever, so that a stop of this process is not held up by those who tail its log.
        let timeout = Duration::from_millis(question.timeout).min(Duration::from_secs(2));
        let fetched = reader.poll(question.max_bytes.min(MOST), timeout).await?;
        Ok(frames::encode(&fetched).into_response())
    };
    answer(records.await)
}

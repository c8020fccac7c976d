//! Who may use the API: those who know the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::Secret;

/// Lets requests with `Authorization: Bearer TOKEN` pass, and those for `/health`; others get 401 with an error
/// body as Kafka Connect writes them.
pub(super) async fn bearer(State(token): State<Arc<Secret>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == "/health"
        || path.starts_with("/health/")
        || allowed(request.headers().get(header::AUTHORIZATION), &token)
    {
        return next.run(request).await;
    }
    let body = r#"{"error_code":401,"message":"User cannot access the resource."}"#;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, headers, body).into_response()
}

fn allowed(header: Option<&header::HeaderValue>, token: &Secret) -> bool {
    let Some((scheme, given)) = header.and_then(|h| h.as_bytes().split_at_checked(7)) else { return false };
    // Equal lengths are needed to compare in a time that tells nothing of where the texts differ.
    scheme.eq_ignore_ascii_case(b"bearer ")
        && given.len() == token.expose().len()
        && openssl::memcmp::eq(given, token.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_passes() {
        let token = Secret::from("correct horse");
        let check = |text: &'static str| allowed(Some(&header::HeaderValue::from_static(text)), &token);
        assert!(check("Bearer correct horse") && check("bearer correct horse"));
        for wrong in ["Bearer correct hors", "Bearer correct horse ", "Basic correct horse", "Bearer", ""] {
            assert!(!check(wrong), "{wrong}");
        }
        assert!(!allowed(None, &token));
    }
}

//! What Kafka Connect's HTTP server does around its handlers: which paths it takes, which media types, how it
//! answers OPTIONS, and the form of its errors.

use std::borrow::Cow;

use axum::Router;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

use crate::connect::ApiError;

/// Methods in the order in which Connect lists them.
const METHODS: [&str; 7] = ["HEAD", "DELETE", "POST", "GET", "OPTIONS", "PUT", "PATCH"];

/// Routes behind Connect's reading of paths and form of errors.
pub(super) fn around(routes: Router) -> Router {
    // Only what lies around a whole router sees a path before it is matched.
    Router::new().fallback_service(routes).layer(from_fn(outside))
}

/// A method that speaks JSON only; where a route and its method are found, media types are looked at.
pub(super) fn json<S: Clone + Send + Sync + 'static>(methods: MethodRouter<S>) -> MethodRouter<S> {
    methods.route_layer(from_fn(media))
}

async fn outside(mut request: Request, next: Next) -> Response {
    let ambiguous = match cleaned(request.uri().path()) {
        Err(why) => return ApiError::new(400, why).into_response(),
        Ok((Cow::Borrowed(_), ambiguous)) => ambiguous,
        Ok((Cow::Owned(path), ambiguous)) => {
            if let Some(uri) = with_path(request.uri(), &path) {
                *request.uri_mut() = uri;
            }
            ambiguous
        }
    };
    let options = request.method() == Method::OPTIONS;
    let response = next.run(request).await;
    if options && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        return allowed(response.headers());
    }
    // Connect refuses such a path whatever it names; here it reaches a connector of that name.
    if ambiguous && response.status() == StatusCode::NOT_FOUND {
        return ApiError::new(400, "Ambiguous URI path: nothing has this name").into_response();
    }
    in_connects_form(response)
}

/// The path without parameters (`;…`) and without the slash at its end, and whether it holds an encoded
/// separator.
fn cleaned(path: &str) -> Result<(Cow<'_, str>, bool), &'static str> {
    if path.contains("//") {
        return Err("Ambiguous URI empty segment");
    }
    let mut ambiguous = false;
    let bytes = path.as_bytes();
    for (at, _) in path.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            None => return Err("Bad percent encoding in the URI path"),
            Some(c) if c.is_ascii_control() => return Err("Control character in the URI path"),
            Some(c) => ambiguous |= matches!(c, b'/' | b'\\' | b'%'),
        }
    }
    if !path.contains(';') && (path == "/" || !path.ends_with('/')) {
        return Ok((Cow::Borrowed(path), ambiguous));
    }
    let plain = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    let mut segments: Vec<String> = path.split('/').map(plain).collect();
    if segments.len() > 2 && segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    Ok((Cow::Owned(segments.join("/")), ambiguous))
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let both = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(both.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

/// The answer to OPTIONS: the methods there are.
fn allowed(headers: &HeaderMap) -> Response {
    let there = headers.get(header::ALLOW).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let there: Vec<&str> = there.split(',').map(str::trim).chain(["OPTIONS"]).collect();
    let list: Vec<&str> = METHODS.into_iter().filter(|m| there.contains(m)).collect();
    let headers = [(header::CONTENT_TYPE, "text/plain".to_owned()), (header::ALLOW, list.join(","))];
    (headers, list.join(", ")).into_response()
}

/// Refusals of the HTTP layer itself (a body that is too large, a path that is not UTF-8) as Connect writes
/// errors.
fn in_connects_form(response: Response) -> Response {
    let status = response.status();
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let reason = status.canonical_reason().unwrap_or("refused");
    ApiError::new(status.as_u16(), format!("HTTP {} {reason}", status.as_u16())).into_response()
}

/// Refuses bodies that are not JSON, and callers who do not take JSON.
async fn media(request: Request, next: Next) -> Response {
    match refusal(request.headers()) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap) -> Option<ApiError> {
    let text = |name| headers.get(name).and_then(|v: &header::HeaderValue| v.to_str().ok());
    if let Some(kind) = text(header::CONTENT_TYPE) {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.contains('/') {
            return Some(ApiError::new(400, format!("'{kind}' is not a media type")));
        }
        if !kind.eq_ignore_ascii_case("application/json") {
            return Some(ApiError::new(415, "HTTP 415 Unsupported Media Type"));
        }
    }
    let takes = text(header::ACCEPT).is_none_or(takes_json);
    (!takes).then(|| ApiError::new(406, "HTTP 406 Not Acceptable"))
}

/// Whether an `Accept` header lets JSON through.
fn takes_json(accept: &str) -> bool {
    accept.trim().is_empty()
        || accept.split(',').any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let refused = parts
                .any(|p| p.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0));
            ["application/json", "application/*", "*/*"].iter().any(|k| k.eq_ignore_ascii_case(kind))
                && !refused
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_connects_server_reads_them() {
        let clean = |path: &str| cleaned(path).map(|(p, ambiguous)| (p.into_owned(), ambiguous));
        let good = |path: &str, to: &str| assert_eq!(clean(path), Ok((to.to_owned(), false)), "{path}");
        good("/", "/");
        good("/connectors", "/connectors");
        good("/connectors/", "/connectors");
        good("/connectors;x=1", "/connectors");
        good("/connectors/h;x=1/status/", "/connectors/h/status");
        good("/connectors/a%20b%C3%BC", "/connectors/a%20b%C3%BC");
        for name in ["a%2Fb", "a%2fb", "a%5Cb", "a%25b"] {
            assert!(clean(&format!("/connectors/{name}")).is_ok_and(|(_, ambiguous)| ambiguous), "{name}");
        }
        for path in ["//connectors", "/connectors//status", "/a%zz", "/a%", "/a%0", "/a%00", "/a%0A", "/a%+1"]
        {
            assert!(clean(path).is_err(), "{path}");
        }
    }

    #[test]
    fn callers_say_what_they_take() {
        for accept in ["", "*/*", "application/*", "text/html, application/json;q=0.5"] {
            assert!(takes_json(accept), "{accept}");
        }
        for accept in ["text/html", "garbage", "application/json;q=0"] {
            assert!(!takes_json(accept), "{accept}");
        }
    }
}

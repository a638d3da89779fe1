//! Looks at every request before it is answered: who asks, under which name, and whether a page of another site sent it.
//!
//! `/livez` and `/readyz` are open to orchestrators, which have no token; who shows none learns the status only.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::access::{Access, Secret, is_loopback};
use crate::protocol::Failure;

/// Paths that orchestrators ask.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// Put on requests that nobody vouches for: no details are told.
#[derive(Debug, Clone, Copy)]
pub struct Unknown;

/// What every answer says to browsers, unless it says something else.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Lets a request pass, or says why not.
pub async fn guard(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let mut response = match check(&access, &request) {
        Err(refusal) => *refusal,
        Ok(known) => {
            if !known {
                request.extensions_mut().insert(Unknown);
            }
            next.run(request).await
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Whether it is known who asks, if the request may pass.
fn check(access: &Access, request: &Request) -> Result<bool, Box<Response>> {
    let headers = request.headers();
    let mut known = true;
    match access {
        Access::Loopback if !text(headers, &header::HOST).is_some_and(is_loopback) => {
            let why =
                "this endpoint answers under the names of loopback only (localhost, 127.0.0.1); for another name, set a token";
            return Err(refuse(StatusCode::FORBIDDEN, why));
        }
        Access::Token(secret) if !is_known(secret, headers) => {
            if !OPEN.contains(&request.uri().path()) {
                return Err(challenge());
            }
            known = false;
        }
        _ => {}
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        check_origin(headers)?;
        let json = text(headers, &header::CONTENT_TYPE).and_then(|t| t.split(';').next()).map(str::trim);
        if !json.is_some_and(|t| t.eq_ignore_ascii_case("application/json")) {
            return Err(refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send JSON: the header Content-Type must be application/json",
            ));
        }
    }
    Ok(known)
}

/// A request that changes something must not come from a page of another site: browsers say where from.
fn check_origin(headers: &HeaderMap) -> Result<(), Box<Response>> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default().split_once("://").map(|(_, host)| host);
    match origin.is_some() && origin == text(headers, &header::HOST) {
        true => Ok(()),
        false => Err(refuse(StatusCode::FORBIDDEN, "a page of another site may not do this")),
    }
}

/// Whether a request shows the token: as a bearer's, or as the password of any user.
fn is_known(secret: &Secret, headers: &HeaderMap) -> bool {
    let Some((scheme, shown)) = text(headers, &header::AUTHORIZATION).and_then(|a| a.split_once(' ')) else { return false };
    if scheme.eq_ignore_ascii_case("bearer") {
        return secret.is(shown.trim().as_bytes());
    }
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(shown.trim()).ok()).flatten();
    let password = decoded.as_ref().and_then(|pair| Some(&pair[pair.iter().position(|b| *b == b':')? + 1..]));
    password.is_some_and(|password| secret.is(password))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn refuse(status: StatusCode, why: &str) -> Box<Response> {
    Box::new((status, Json(Failure { error: why.to_owned() })).into_response())
}

/// Browsers ask for a name and a password then; any name will do.
fn challenge() -> Box<Response> {
    let mut response =
        refuse(StatusCode::UNAUTHORIZED, "a token is needed: Authorization: Bearer …, or as the password of any user");
    let basic = HeaderValue::from_static("Basic realm=\"riverrun\", charset=\"UTF-8\"");
    response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"riverrun\""));
    response.headers_mut().append(header::WWW_AUTHENTICATE, basic);
    response
}

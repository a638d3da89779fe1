//! The live dashboard: a page at `/` that shows the running pipeline, made of files in `page/` that are compiled in. It works
//! offline, and is plain HTML, CSS and JavaScript: nothing builds it (`docs/decisions/0020-the-dashboard.md`).
//!
//! The page asks `/metrics` once a second and makes all numbers of it, so they are those that Prometheus sees; what is no number
//! (the graph, samples, alerts, rows) it asks the API. Of its own it has `GET /dashboard/end`, which answers when the pipeline ends.
//!
//! Invariants: the page holds and sees no secret (a token is between browser and server); by its Content-Security-Policy it runs no script and
//! asks no host but this one; whatever comes from data becomes text.

mod ending;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;

pub use ending::Ending;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($path:literal $kind:ident $file:literal)*) => {
        &[$(Asset { path: $path, kind: $kind, text: include_str!(concat!("page/", $file)) }),*]
    };
}

const ASSETS: &[Asset] = assets! {
    "/" HTML "index.html"
    "/dashboard/style.css" CSS "style.css"
    "/dashboard/icon.svg" SVG "icon.svg"
    "/dashboard/chart.js" JS "chart.js"
    "/dashboard/condition.js" JS "condition.js"
    "/dashboard/dom.js" JS "dom.js"
    "/dashboard/drops.js" JS "drops.js"
    "/dashboard/format.js" JS "format.js"
    "/dashboard/fraud.js" JS "fraud.js"
    "/dashboard/graph.js" JS "graph.js"
    "/dashboard/history.js" JS "history.js"
    "/dashboard/journey.js" JS "journey.js"
    "/dashboard/main.js" JS "main.js"
    "/dashboard/metrics.js" JS "metrics.js"
    "/dashboard/outputs.js" JS "outputs.js"
    "/dashboard/overview.js" JS "overview.js"
    "/dashboard/partitions.js" JS "partitions.js"
    "/dashboard/server.js" JS "server.js"
    "/dashboard/theme.js" JS "theme.js"
    "/dashboard/upkeep.js" JS "upkeep.js"
};

const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// The page and its files.
pub fn page<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(asset.path, get(async move || (HEADERS, [(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()))
    })
}

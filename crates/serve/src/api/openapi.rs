//! The API for machines: OpenAPI 3.1, made from what stands at the handlers.

use axum::Json;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Document};
use utoipa::{Modify, OpenApi};

use super::{Answered, actions, dropped, live, pipeline, tables, tail};
use crate::plain;

#[derive(OpenApi)]
#[openapi(
    info(title = "Riverrun", description = "The HTTP API of a running pipeline."),
    paths(
        document,
        pipeline::pipelines,
        pipeline::pipeline,
        pipeline::graph,
        pipeline::health,
        plain::progress,
        plain::live_progress,
        actions::pause,
        actions::resume,
        actions::stop,
        actions::checkpoint,
        tables::tables,
        tables::table,
        tables::rows,
        tables::sql,
        live::recent,
        live::live,
        plain::topics,
        plain::records,
        tail::tail,
        dropped::dead_letters,
        dropped::replay,
        dropped::late_rows,
    ),
    modifiers(&Token)
)]
struct Api;

/// The token, where one is set.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let open = SecurityRequirement::default();
        document.security = Some(vec![open, SecurityRequirement::new::<_, _, &str>("token", [])]);
    }
}

/// The description of the API.
pub fn api() -> Document {
    Api::openapi()
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "api", responses((status = 200, body = Object)))]
pub async fn document() -> Answered {
    Ok(Json(api()).into_response())
}

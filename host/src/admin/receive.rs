//! What a push brings: a component, and perhaps a configuration and cases.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyDataStream, BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use multer::{Constraints, Multipart, SizeLimit};
use serde_json::Value as Json;

/// A configuration or a list of cases, in bytes: as much as a configuration file may have.
pub(super) const TEXT_BYTES_MAX: usize = crate::config::CONFIG_BYTES_MAX;

/// All of it, however large.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Around the parts of a form.
const FORM_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) component: Bytes,
    pub(super) config: Option<Json>,
    pub(super) cases: Option<Json>,
}

/// Why a request's body is no good: the response's status, and the reason.
pub(super) type Wrong = (StatusCode, String);

/// A component of up to `component_max` bytes by itself, or as a form.
pub(super) async fn pushed(
    request: http::Request<Incoming>,
    component_max: usize,
) -> Result<Pushed, Wrong> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let receiving = async {
        let boundary = multer::parse_boundary(&content_type).ok();
        let texts = if boundary.is_some() { 2 * TEXT_BYTES_MAX + FORM_BYTES_MAX } else { 0 };
        // Before the first byte: nobody wants to send for minutes what is too large anyway.
        let announced = request.body().size_hint().exact();
        if announced.is_some_and(|bytes| bytes > (component_max + texts) as u64) {
            return Err(too_large("component_max", component_max));
        }
        if let Some(boundary) = boundary {
            return form(request.into_body(), boundary, component_max).await;
        }
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/wasm") {
            return Err((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send the component as application/wasm, or a multipart/form-data with the parts \
                 component, config and cases"
                    .to_owned(),
            ));
        }
        let component = whole(request.into_body(), component_max, "component_max").await?;
        Ok(Pushed { component, config: None, cases: None })
    };
    in_time(receiving).await
}

async fn in_time<T>(receiving: impl Future<Output = Result<T, Wrong>>) -> Result<T, Wrong> {
    match tokio::time::timeout(TIME_MAX, receiving).await {
        Ok(received) => received,
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, format!("it took more than {TIME_MAX:?}"))),
    }
}

/// A small body as JSON.
pub(super) async fn json(body: Incoming) -> Result<Json, Wrong> {
    let bytes = in_time(whole(body, TEXT_BYTES_MAX, "the limit")).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("the body is no JSON: {error}")))
}

async fn whole(body: Incoming, bytes_max: usize, key: &str) -> Result<Bytes, Wrong> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(key, bytes_max)),
        Err(error) => Err((StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
    }
}

fn too_large(key: &str, bytes_max: usize) -> Wrong {
    let max = bytesize::ByteSize(bytes_max as u64);
    (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than `{key}` allows: {max}"))
}

async fn form(body: Incoming, boundary: String, component_max: usize) -> Result<Pushed, Wrong> {
    let limits = SizeLimit::new()
        .whole_stream((component_max + 2 * TEXT_BYTES_MAX + FORM_BYTES_MAX) as u64)
        .for_field("component", component_max as u64)
        .for_field("config", TEXT_BYTES_MAX as u64)
        .for_field("cases", TEXT_BYTES_MAX as u64);
    let constraints =
        Constraints::new().allowed_fields(vec!["component", "config", "cases"]).size_limit(limits);
    let mut form = Multipart::with_constraints(BodyDataStream::new(body), boundary, constraints);
    let wrong = |error: multer::Error| match error {
        multer::Error::FieldSizeExceeded { limit, field_name } => {
            let key = match field_name.as_deref() {
                Some("component") | None => "component_max",
                Some(_) => "the limit",
            };
            too_large(key, limit as usize)
        }
        multer::Error::StreamSizeExceeded { limit } => too_large("component_max", limit as usize),
        other => (StatusCode::BAD_REQUEST, format!("the form makes no sense: {other}")),
    };
    let (mut component, mut config, mut cases) = (None, None, None);
    while let Some(field) = form.next_field().await.map_err(wrong)? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(wrong)?;
        let as_json = || {
            serde_json::from_slice::<Json>(&bytes).map_err(|error| {
                (StatusCode::BAD_REQUEST, format!("the part {name} is no JSON: {error}"))
            })
        };
        match name.as_str() {
            "component" => component = Some(bytes),
            "config" => config = Some(as_json()?),
            _ => cases = Some(as_json()?),
        }
    }
    let Some(component) = component else {
        return Err((StatusCode::BAD_REQUEST, "the form has no part `component`".into()));
    };
    if config.as_ref().is_some_and(|config| !config.is_object()) {
        return Err((StatusCode::BAD_REQUEST, "the part config must be a JSON object".into()));
    }
    Ok(Pushed { component, config, cases })
}

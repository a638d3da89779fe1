//! Which format a client wants, by its Accept header (RFC 9110, section 12.5.1).

use super::family::Format;

/// The format of the highest quality; Prometheus text where a client says nothing, or takes anything.
pub fn format(accept: Option<&str>) -> Format {
    let quality = |types: &[&str]| {
        let ranges = accept.unwrap_or_default().split(',');
        let qualities = ranges.filter_map(range).filter(|(name, _)| types.iter().any(|t| name.eq_ignore_ascii_case(t)));
        qualities.map(|(_, q)| q).fold(0.0, f64::max)
    };
    let open_metrics = quality(&["application/openmetrics-text"]);
    let text = quality(&["text/plain", "text/*", "*/*"]);
    if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
}

/// A media range and its quality. One that asks for a later version of OpenMetrics than there is here is none.
fn range(text: &str) -> Option<(&str, f64)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next()?;
    let mut quality = 1.0;
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match key.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().ok()?,
            "version" if name.eq_ignore_ascii_case("application/openmetrics-text") => {
                let version = value.trim().trim_matches('"');
                if !(version.starts_with("1.") || version.starts_with("0.")) {
                    return None;
                }
            }
            _ => {}
        }
    }
    Some((name, quality))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_the_highest_quality_is_given() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html, */*;q=0.8"), Format::Text),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("Application/OpenMetrics-Text; version=\"1.0.0\", text/plain"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0.1, text/plain;q=0.9"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;version=2.0.0,text/plain;q=0.1"), Format::Text),
            (Some(prometheus), Format::OpenMetrics),
        ] {
            assert_eq!(format(accept), expected, "{accept:?}");
        }
    }
}

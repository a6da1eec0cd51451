//! What is done with a route's answers, whoever gives them: compression, headers, other origins.

use super::section::Section;
use super::value::boolean;
use super::{Cors, HeaderRules, cors, headers};

/// What is done with a route's answers, whoever gives them.
#[derive(Clone, Debug, Default)]
pub struct RouteAround {
    /// They are compressed; None: as `compress.on` says.
    pub compress: Option<bool>,
    /// Their headers; those of `[headers]` are under them.
    pub headers: HeaderRules,
    /// Who may ask from elsewhere; None: the front says nothing of it.
    pub cors: Option<Cors>,
}

/// Reads what every route may have; `channels`: it leads to channels.
pub(super) fn read(section: &mut Section<'_>, channels: bool) -> RouteAround {
    let compress = section.optional("compress", boolean);
    let headers = headers::read(section.section("headers"));
    let cors = if !section.has("cors") {
        section.ignore(&["cors"]);
        None
    } else if channels {
        section.problem("cors", "expected channels.cors instead: it holds for channels on all routes");
        section.ignore(&["cors"]);
        None
    } else {
        cors::read(section.section("cors"))
    };
    RouteAround { compress, headers, cors }
}

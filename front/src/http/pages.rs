//! The pages of an operator's own for failures, in memory from the start on.
//!
//! A page is a file with blanks: `{{status}}`, `{{title}}`, `{{detail}}` and `{{request_id}}` are filled in, as text that
//! cannot become markup. Only what the front itself has to say gets one: what a worker answers is the worker's.

use std::fs;
use std::io;
use std::path::PathBuf;

use http::{HeaderValue, StatusCode};

use super::files::content_type;
use crate::config::{ErrorPage, PageOf};

/// Bytes of one page.
const MOST: u64 = 256 * 1024;

/// All pages.
#[derive(Debug, Default)]
pub struct Pages(Vec<Page>);

#[derive(Debug)]
struct Page {
    of: PageOf,
    kind: HeaderValue,
    text: String,
}

/// Why the pages cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("errors: the page {} cannot be used: {why}", file.display())]
pub struct PageError {
    file: PathBuf,
    why: io::Error,
}

impl Pages {
    /// Reads all of them; blocks.
    ///
    /// # Errors
    /// The first file that is not there, no text, or longer than 256 KiB.
    pub fn open(pages: &[ErrorPage]) -> Result<Self, PageError> {
        let open = |page: &ErrorPage| match read(page) {
            Ok(text) => Ok(Page { of: page.of, kind: content_type(&page.file), text }),
            Err(why) => Err(PageError { file: page.file.clone(), why }),
        };
        pages.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// The page for a status with its blanks filled in, and its type; None: there is none.
    pub(super) fn filled(&self, status: StatusCode, detail: &str, id: &str) -> Option<(String, HeaderValue)> {
        let code = status.as_u16();
        let of = |wanted| self.0.iter().find(move |page| page.of == wanted);
        let page = of(PageOf::Status(code)).or_else(|| of(PageOf::Class(code / 100)))?;
        let title = status.canonical_reason().unwrap_or("Error");
        let blanks =
            [("{{status}}", status.as_str()), ("{{title}}", title), ("{{detail}}", detail), ("{{request_id}}", id)];
        Some((fill(&page.text, &blanks), page.kind.clone()))
    }
}

fn read(page: &ErrorPage) -> io::Result<String> {
    if fs::metadata(&page.file)?.len() > MOST {
        return Err(io::Error::other(format!("it has more than {MOST} bytes")));
    }
    fs::read_to_string(&page.file)
}

/// In one pass, so that what is filled in is never looked at again.
fn fill(text: &str, blanks: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len() + 128);
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match blanks.iter().find(|(blank, _)| rest.starts_with(blank)) {
            Some((blank, value)) => {
                escape(&mut out, value);
                rest = &rest[blank.len()..];
            }
            None => {
                out.push_str("{{");
                rest = &rest[2..];
            }
        }
    }
    out + rest
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(of: PageOf, text: &str) -> Page {
        Page { of, kind: HeaderValue::from_static("text/html"), text: text.to_owned() }
    }

    #[test]
    fn blanks_are_filled_in_as_text() {
        let filled = fill("{{a}} {{b}} {{c}} {{", &[("{{a}}", "<&\"'>"), ("{{b}}", "{{a}}")]);
        assert_eq!(filled, "&lt;&amp;&quot;&#39;&gt; {{a}} {{c}} {{");
    }

    #[test]
    fn the_status_goes_before_its_class() {
        let pages = Pages(vec![page(PageOf::Class(4), "class"), page(PageOf::Status(404), "{{status}} {{title}}")]);
        let text = |status| pages.filled(status, "", "").map(|(text, _)| text);
        assert_eq!(text(StatusCode::NOT_FOUND).as_deref(), Some("404 Not Found"));
        assert_eq!(text(StatusCode::METHOD_NOT_ALLOWED).as_deref(), Some("class"));
        assert_eq!(text(StatusCode::BAD_GATEWAY), None);
    }

    #[test]
    fn a_page_that_is_not_there_is_named() {
        let missing = ErrorPage { of: PageOf::Class(5), file: "/no/such/page.html".into() };
        assert!(Pages::open(&[missing]).expect_err("it is missing").to_string().contains("/no/such/page.html"));
    }
}

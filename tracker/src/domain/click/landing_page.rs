//! Fills the macros of a landing URL.

use std::borrow::Cow;

use adtrack_proto::web_url::{MAX_URL_BYTES, split_at_authority};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// The macro of the click's id, and the parameter that is appended if a URL has no macro.
pub const CLICK_ID: &str = "click_id";
/// The maximum length of a macro's name in bytes: the same as of a parameter's.
const MAX_MACRO_BYTES: usize = crate::domain::limits::MAX_NAME_BYTES;
/// The maximum size of all filled values together, in bytes. With the longest URL that makes 8,000, the
/// length that everybody should support (RFC 9110, section 4.1). A value that does not fit is left empty.
const MAX_FILLED_BYTES: usize = 8_000 - MAX_URL_BYTES;
/// Every character except RFC 3986's unreserved ones is encoded. Those have no special meaning in any part of
/// a URL, except for dots, see [`is_dot_segment`].
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Fills `template`, a URL that [`adtrack_proto::web_url::parse`] accepts: each macro is replaced by what
/// `value_of` returns for its name. If there is no macro, `click_id` is appended to the query.
///
/// Values are percent-encoded. They cannot change the URL's structure: they add no segment, parameter or
/// fragment, and remove no segment. Templates are parsed on each click; the memory for 100,000 templates that
/// are parsed in advance would cost more than the time that this takes.
pub fn landing_page<'v>(
    template: &str,
    click_id: &str,
    value_of: impl Fn(&str) -> Cow<'v, str>,
) -> Option<Url> {
    let (authority, rest) = split_at_authority(template)?;
    let (path, after_path) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    // Of `https://`.
    let scheme_bytes = template.len() - authority.len() - rest.len();
    let mut filler =
        Filler { text: template[..scheme_bytes].to_owned(), room: MAX_FILLED_BYTES, value_of };
    filler.text.push_str(authority);
    let mut has_macro = false;
    for (number, segment) in path.split('/').enumerate() {
        if number > 0 {
            filler.text.push('/');
        }
        let begin = filler.text.len();
        if filler.fill(segment) {
            has_macro = true;
            if is_dot_segment(&filler.text[begin..]) {
                filler.text.truncate(begin);
            }
        }
    }
    has_macro |= filler.fill(after_path);
    // Normalizes the URL to ASCII, as browsers read it.
    let page = Url::parse(&filler.text).ok()?;
    Some(if has_macro { page } else { with_click_id(page, click_id) })
}

/// Appends the click's id to the query of `page`.
pub fn with_click_id(mut page: Url, click_id: &str) -> Url {
    page.query_pairs_mut().append_pair(CLICK_ID, click_id);
    page
}

struct Filler<V> {
    text: String,
    /// Bytes left for values.
    room: usize,
    value_of: V,
}

impl<'v, V: Fn(&str) -> Cow<'v, str>> Filler<V> {
    /// Appends `template` with its macros filled. Returns whether it had any.
    fn fill(&mut self, template: &str) -> bool {
        let mut rest = template;
        let mut has_macro = false;
        while let Some((literal, after_brace)) = rest.split_once('{') {
            self.text.push_str(literal);
            if let Some((name, after_macro)) = macro_name(after_brace) {
                has_macro = true;
                self.push_value(name);
                rest = after_macro;
            } else {
                self.text.push('{');
                rest = after_brace;
            }
        }
        self.text.push_str(rest);
        has_macro
    }

    fn push_value(&mut self, name: &str) {
        let value = (self.value_of)(name);
        let encoded: Cow<'_, str> = utf8_percent_encode(&value, ENCODED).into();
        if let Some(room) = self.room.checked_sub(encoded.len()) {
            self.room = room;
            self.text.push_str(&encoded);
        }
    }
}

/// The name of the macro whose opening brace is before `text`, and what follows its closing brace; none if
/// it is not a macro.
fn macro_name(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().take(MAX_MACRO_BYTES + 1).position(|byte| byte == b'}')?;
    let name = &text[..end];
    let allowed = |c: char| c.is_alphanumeric() || "_.-~:[]".contains(c);
    (!name.is_empty() && name.chars().all(allowed)).then(|| (name, &text[end + 1..]))
}

/// Whether browsers read the path segment as `.` or `..`. They do so even if the dots are percent-encoded
/// (url.spec.whatwg.org, "double-dot URL path segment").
fn is_dot_segment(segment: &str) -> bool {
    segment.len() <= "%2e%2e".len()
        && matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..")
}

#[cfg(test)]
mod tests {
    use adtrack_proto::web_url::{self, Macros};
    use proptest::prelude::*;

    use super::*;

    fn page(template: &str, values: &[(&str, &str)]) -> String {
        web_url::parse(template, Macros::Allowed).unwrap();
        let value = |name: &str| {
            let found = values.iter().find(|(known, _)| *known == name);
            found.map_or_else(String::new, |(_, value)| (*value).to_owned()).into()
        };
        landing_page(template, "ID", value).unwrap().into()
    }

    #[test]
    fn fills_macros_in_path_query_and_fragment() {
        let values = [("click_id", "ID"), ("a", "\u{fc} b"), ("x[y]", "z")];
        for (template, expected) in [
            ("https://shop.example/{a}?c={click_id}#{a}", "/%C3%BC%20b?c=ID#%C3%BC%20b"),
            ("https://shop.example?{click_id}={none}&v={x[y]}", "/?ID=&v=z"),
            ("https://shop.example/{none}/p#!/{click_id}", "//p#!/ID"),
            ("https://shop.example/\u{e9}/{click_id}", "/%C3%A9/ID"),
        ] {
            assert_eq!(page(template, &values), format!("https://shop.example{expected}"));
        }
        assert_eq!(page("https://b\u{fc}cher.example/{a}", &[]), "https://xn--bcher-kva.example/");
    }

    #[test]
    fn appends_the_click_id_if_there_is_no_macro() {
        for (template, expected) in [
            ("https://shop.example", "/?click_id=ID"),
            ("https://shop.example/p#top", "/p?click_id=ID#top"),
            ("https://shop.example/p?", "/p?click_id=ID"),
            ("https://shop.example/p?a=1#x?y", "/p?a=1&click_id=ID#x?y"),
            ("https://shop.example/{a/b}/{}?x={", "/%7Ba/b%7D/%7B%7D?x={&click_id=ID"),
        ] {
            assert_eq!(
                page(template, &[]),
                format!("https://shop.example{expected}"),
                "{template}"
            );
        }
        // A template with a macro decides itself whether, and where, it contains the id.
        assert_eq!(page("https://shop.example/{a}", &[]), "https://shop.example/");
    }

    #[test]
    fn keeps_the_structure_of_the_url() {
        for value in
            ["../../evil", "a&b=c#d?e", "//evil.example", "\\evil", "%2e%2e/", "{click_id}"]
        {
            let url = page("https://shop.example/a/{v}/b?v={v}&w=1#{v}", &[("v", value)]);
            let url = Url::parse(&url).unwrap();
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            assert_eq!((segments.len(), segments[0], segments[2]), (3, "a", "b"), "{url}");
            let pairs: Vec<_> = url.query_pairs().collect();
            assert_eq!(pairs.len(), 2, "{url}");
            assert_eq!(pairs[0].1, value);
        }
        let dots = [("dot", "."), ("dots", "..")];
        for (template, expected) in [
            ("https://shop.example/a/{dots}/b", "/a//b"),
            ("https://shop.example/a/{dot}{dot}/b", "/a//b"),
            ("https://shop.example/a/%2E{dot}", "/a/"),
            ("https://shop.example/a/x{dots}/b?{dots}", "/a/x../b?.."),
        ] {
            assert_eq!(page(template, &dots), format!("https://shop.example{expected}"));
        }
    }

    #[test]
    fn bounds_the_length_of_the_url() {
        let value = "\u{fc}".repeat(250);
        let url = page(&format!("https://shop.example/{}", "{v}".repeat(600)), &[("v", &value)]);
        assert!((4_000..=8_000).contains(&url.len()), "{}", url.len());
    }

    proptest! {
        #[test]
        fn no_value_changes_the_host(
            rest in "([/?#][a-z{}?#&=.%/@:\u{ff0f}\u{3002}]{0,20}){1,4}(\\{v\\})?[/?#a-z.{}v]{0,9}",
            value in prop_oneof![any::<String>(), "[./\\\\%@:?#&{}a-z0-9\t\n\u{ff0e}\u{3002}]{0,20}"],
        ) {
            let template = format!("https://shop.example{rest}");
            prop_assume!(web_url::parse(&template, Macros::Allowed).is_ok());
            let url = landing_page(&template, "ID", |_| value.clone().into()).unwrap();
            prop_assert_eq!(url.host_str(), Some("shop.example"), "{}", url);
            prop_assert!(url.username().is_empty() && url.port().is_none(), "{}", url);
            prop_assert!(url.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
            // As many segments as a plain value makes.
            let plain = landing_page(&template, "ID", |_| "v".into()).unwrap();
            let segments = |url: &Url| url.path_segments().unwrap().count();
            prop_assert_eq!(segments(&url), segments(&plain), "{} {}", url, plain);
            prop_assert_eq!(url.fragment().is_some(), plain.fragment().is_some());
            // No additional parameter. An empty name may make one less.
            prop_assert!(url.query_pairs().count() <= plain.query_pairs().count(), "{}", url);
        }
    }
}

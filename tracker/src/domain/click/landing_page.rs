//! Where a click goes: a landing URL with its macros filled.

use std::borrow::Cow;

use adtrack_proto::web_url::{MAX_URL_BYTES, split_at_authority};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// The name of the click's id where a URL names no macro.
pub const CLICK_ID: &str = "click_id";
/// The longest name of a macro, in bytes: that of a parameter.
const MAX_MACRO_BYTES: usize = crate::domain::limits::MAX_NAME_BYTES;
/// The most bytes that all values together fill. With the longest URL they make 8,000, the length that
/// everybody should take (RFC 9110, section 4.1); a value beyond is left empty.
const MAX_VALUE_BYTES: usize = 8_000 - MAX_URL_BYTES;
/// All but the unreserved characters of RFC 3986: what remains means nothing in any part of a URL. But
/// for dots, see [`is_dot_segment`].
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The page that `template` names, which is one that [`adtrack_proto::web_url::parse`] takes: each
/// macro becomes the value that `value` has for its name; where it names none, `click_id` is appended.
///
/// A value is percent-encoded and leaves its place in no part of the URL: it adds no segment, no
/// parameter and no fragment, and takes no segment away. Nothing of a template is prepared when it is
/// cached: one pass over a text this short costs less than the memory of 100,000 prepared ones.
pub fn landing_page<'v>(
    template: &str,
    click_id: &str,
    value: impl Fn(&str) -> Cow<'v, str>,
) -> Option<Url> {
    let (authority, rest) = split_at_authority(template)?;
    let (path, behind) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let origin = template.len() - authority.len() - rest.len();
    let mut filler = Filler { text: template[..origin].to_owned(), room: MAX_VALUE_BYTES, value };
    filler.text.push_str(authority);
    let mut names_macro = false;
    for (number, segment) in path.split('/').enumerate() {
        if number > 0 {
            filler.text.push('/');
        }
        let begin = filler.text.len();
        if filler.fill(segment) {
            names_macro = true;
            if is_dot_segment(&filler.text[begin..]) {
                filler.text.truncate(begin);
            }
        }
    }
    names_macro |= filler.fill(behind);
    // As browsers read it, and in ASCII.
    let page = Url::parse(&filler.text).ok()?;
    Some(if names_macro { page } else { with_click_id(page, click_id) })
}

/// `page` with the click's id behind its query.
pub fn with_click_id(mut page: Url, click_id: &str) -> Url {
    page.query_pairs_mut().append_pair(CLICK_ID, click_id);
    page
}

struct Filler<V> {
    text: String,
    room: usize,
    value: V,
}

impl<'v, V: Fn(&str) -> Cow<'v, str>> Filler<V> {
    /// Appends `template` with its macros filled; whether it had any.
    fn fill(&mut self, template: &str) -> bool {
        let mut rest = template;
        let mut names_macro = false;
        while let Some((literal, behind)) = rest.split_once('{') {
            self.text.push_str(literal);
            if let Some((name, behind)) = macro_name(behind) {
                names_macro = true;
                self.push_value(name);
                rest = behind;
            } else {
                self.text.push('{');
                rest = behind;
            }
        }
        self.text.push_str(rest);
        names_macro
    }

    fn push_value(&mut self, name: &str) {
        let value = (self.value)(name);
        let encoded: Cow<'_, str> = utf8_percent_encode(&value, ENCODED).into();
        if let Some(room) = self.room.checked_sub(encoded.len()) {
            self.room = room;
            self.text.push_str(&encoded);
        }
    }
}

/// The macro's name, and what follows its closing brace; none where the brace before `text` begins no
/// macro.
fn macro_name(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().take(MAX_MACRO_BYTES + 1).position(|byte| byte == b'}')?;
    let name = &text[..end];
    let allowed = |c: char| c.is_alphanumeric() || "_.-~:[]".contains(c);
    (!name.is_empty() && name.chars().all(allowed)).then(|| (name, &text[end + 1..]))
}

/// Whether browsers take the segment of a path for a step to where it stands, or up: dots are dots
/// there even when they are percent-encoded (url.spec.whatwg.org, "double-dot URL path segment").
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
    fn macros_are_filled_in_path_query_and_fragment() {
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
    fn the_click_id_is_appended_where_no_macro_is_named() {
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
        // Whoever names a macro says where the id goes, or that it goes nowhere.
        assert_eq!(page("https://shop.example/{a}", &[]), "https://shop.example/");
    }

    #[test]
    fn a_value_does_not_leave_its_place() {
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
    fn what_is_filled_is_bounded() {
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
            // As many segments as with a plain value.
            let plain = landing_page(&template, "ID", |_| "v".into()).unwrap();
            let segments = |url: &Url| url.path_segments().unwrap().count();
            prop_assert_eq!(segments(&url), segments(&plain), "{} {}", url, plain);
            prop_assert_eq!(url.fragment().is_some(), plain.fragment().is_some());
            // Nor a parameter more; a name that is empty may make one less.
            prop_assert!(url.query_pairs().count() <= plain.query_pairs().count(), "{}", url);
        }
    }
}

//! The macros of a landing URL, such as `{click_id}`: how they are found, and which of them are mistakes.
//!
//! A click fills a macro with the request's parameter of that name, so an unknown name may be right. But a name that
//! is one of ours but for case or punctuation is a mistake, and so is a macro in another system's notation. If the
//! URL then has no click id, no conversion can be matched to a click.

use std::fmt;

use crate::aliases::{MAX_PARAMETER_NAME_BYTES, letters};
use crate::web_url::split_at_authority;

/// The macro of the click's id.
pub const CLICK_ID: &str = "click_id";
/// The macros that are meant if a name resembles one.
const MACROS: [&str; 4] = [CLICK_ID, "program_id", "customer_id", "impression_id"];
/// A parameter of the request that resembles one of them.
const CUSTOMER_ID_PARAMETER: &str = "customerId";

/// The name of the macro whose opening brace is before `text`, and what follows its closing brace; none if
/// it is not a macro.
pub fn macro_name(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().take(MAX_PARAMETER_NAME_BYTES + 1).position(|byte| byte == b'}')?;
    let name = &text[..end];
    let allowed = |c: char| c.is_alphanumeric() || "_.-~:[]".contains(c);
    (!name.is_empty() && name.chars().all(allowed)).then(|| (name, &text[end + 1..]))
}

/// What is wrong with the macros of a landing URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MacroMistakes {
    /// The macros that are not filled as they were meant, as they are in the URL, each with the right one.
    pub unfilled: Vec<(String, String)>,
    /// Whether the URL has no click id because of them.
    pub loses_click_id: bool,
    /// Why the shop gets no click id, if it gets none.
    pub no_click_id: Option<NoClickId>,
}

/// Why a shop gets no click id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoClickId {
    /// These macros are in the URL, so nothing is appended, and none of them is the click id's.
    OtherMacros(Vec<String>),
    /// It is only behind `#`, which browsers keep to themselves.
    InFragment,
}

/// `{clickid} is not filled as it was meant, {click_id} is`
impl fmt::Display for MacroMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (text, right)) in self.unfilled.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{text} is not filled as it was meant, {right} is")?;
        }
        let Some(reason) = &self.no_click_id else { return Ok(()) };
        f.write_str(if self.unfilled.is_empty() { "" } else { "; " })?;
        match reason {
            NoClickId::OtherMacros(macros) => write!(
                f,
                "the shop gets no click id, so no conversion can be matched to a click: none of {} is \
                 {{click_id}}, and nothing is appended to a URL with macros",
                macros.join(", ")
            ),
            NoClickId::InFragment => f.write_str(
                "the shop gets no click id: {click_id} is only behind #, which browsers do not send",
            ),
        }
    }
}

/// What a URL has of macros, up to some position.
#[derive(Default)]
struct Found {
    unfilled: Vec<(String, String)>,
    /// Those in braces: nothing is appended to a URL that has one.
    braced: Vec<String>,
    has_click_id: bool,
    has_click_id_in_fragment: bool,
}

/// Looks for mistakes in the macros of `url`; none if there are none.
pub fn macro_mistakes(url: &str) -> Option<MacroMistakes> {
    let (_, rest) = split_at_authority(url)?;
    let found = Found::of(rest);
    let loses_click_id = !found.braced.is_empty()
        && !found.has_click_id
        && !found.has_click_id_in_fragment
        && !found.unfilled.is_empty();
    let no_click_id = if found.has_click_id || loses_click_id {
        None
    } else if found.has_click_id_in_fragment {
        Some(NoClickId::InFragment)
    } else {
        (!found.braced.is_empty()).then_some(NoClickId::OtherMacros(found.braced))
    };
    let mistakes = MacroMistakes { unfilled: found.unfilled, loses_click_id, no_click_id };
    (mistakes != MacroMistakes::default()).then_some(mistakes)
}

impl Found {
    fn of(rest: &str) -> Self {
        let fragment_at = rest.find('#');
        let mut found = Self::default();
        let mut position = 0;
        while position < rest.len() {
            let (before, after) = rest.split_at(position);
            if let Some((text, name, is_braced)) = foreign_macro(before, after) {
                if is_braced {
                    found.braced.push(text.to_owned());
                }
                found.unfilled.extend(right_macro(name).map(|right| (text.to_owned(), right)));
                position += text.len();
            } else if let Some(after_brace) = after.strip_prefix('{')
                && let Some((name, after_macro)) = macro_name(after_brace)
            {
                found.add(name, fragment_at.is_some_and(|fragment| position > fragment));
                position = rest.len() - after_macro.len();
            } else {
                position += after.chars().next().map_or(1, char::len_utf8);
            }
        }
        found
    }

    /// Adds a macro in our notation.
    fn add(&mut self, name: &str, is_in_fragment: bool) {
        let text = format!("{{{name}}}");
        if name == CLICK_ID {
            self.has_click_id |= !is_in_fragment;
            self.has_click_id_in_fragment |= is_in_fragment;
        } else if !MACROS.contains(&name) && name != CUSTOMER_ID_PARAMETER {
            self.unfilled.extend(right_macro(name).map(|right| (text.clone(), right)));
        }
        self.braced.push(text);
    }
}

/// The macro of another system that `text`, which follows `before`, begins with, its name, and whether it has a
/// macro of ours inside.
fn foreign_macro<'a>(before: &str, text: &'a str) -> Option<(&'a str, &'a str, bool)> {
    const NOTATIONS: [(&str, &str, bool); 11] = [
        ("{{", "}}", true),
        ("${", "}", true),
        ("[", "]", false),
        ("%%", "%%", false),
        ("%25%25", "%25%25", false),
        ("%7B", "%7D", false),
        ("%7b", "%7d", false),
        ("__", "__", false),
        ("<", ">", false),
        ("#", "#", false),
        ("@", "@", false),
    ];
    // As in `data[click_id]`.
    let is_index = before.ends_with(|c: char| c.is_alphanumeric() || c == ']');
    let enclosed = NOTATIONS.iter().find_map(|(open, close, is_braced)| {
        let inside = text.strip_prefix(open).filter(|_| *open != "[" || !is_index)?;
        let name = &inside[..inside.find(close)?];
        let whole = &text[..open.len() + name.len() + close.len()];
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_.- ".contains(c));
        (is_name && right_macro(name).is_some()).then_some((whole, name, *is_braced))
    });
    enclosed.or_else(|| open_macro(text))
}

/// A macro without an end: `:click_id`, `$click_id`, or `{click_id` with its brace cut off.
fn open_macro(text: &str) -> Option<(&str, &str, bool)> {
    let inside = text.strip_prefix([':', '$', '{'])?;
    let is_end = |c: char| !c.is_alphanumeric() && c != '_' && c != '-';
    let name = &inside[..inside.find(is_end).unwrap_or(inside.len())];
    let is_closed = text.starts_with('{') && macro_name(inside).is_some();
    let whole = &text[..text.len() - inside.len() + name.len()];
    (!is_closed && right_macro(name).is_some()).then_some((whole, name, false))
}

/// Our macro that `name` is meant to be, with its braces.
fn right_macro(name: &str) -> Option<String> {
    let right = MACROS.iter().find(|known| letters(known) == letters(name))?;
    Some(format!("{{{right}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(rest: &str) -> Option<(Vec<String>, bool)> {
        let found = macro_mistakes(&format!("https://shop.example{rest}"))?;
        let texts = found.unfilled.into_iter().map(|(text, _)| text).collect();
        Some((texts, found.loses_click_id))
    }

    #[test]
    fn finds_macros_that_are_not_filled_as_meant() {
        for (rest, texts, loses_click_id) in [
            ("/?c={clickid}", &["{clickid}"][..], true),
            ("/?c={CLICK_ID}", &["{CLICK_ID}"], true),
            ("/?c={click-id}", &["{click-id}"], true),
            ("/?c={{click_id}}", &["{{click_id}}"], true),
            ("/?c=${click_id}", &["${click_id}"], true),
            ("/p{{click_id}}", &["{{click_id}}"], true),
            ("/{clickId}/p?s={sub}", &["{clickId}"], true),
            ("/?p={programId}", &["{programId}"], true),
            ("/?c={click_id}&d={clickid}#{ProgramID}", &["{clickid}", "{ProgramID}"], false),
            ("/?c={click_id}&d={{click_id}}", &["{{click_id}}"], false),
            // Without a macro of ours, the click's id is appended.
            ("/?c=[CLICKID]", &["[CLICKID]"], false),
            ("/?c=%%CLICK_ID%%", &["%%CLICK_ID%%"], false),
            ("/?c=%7Bclick_id%7D", &["%7Bclick_id%7D"], false),
            ("/?c=%25%25CLICK_ID%25%25", &["%25%25CLICK_ID%25%25"], false),
            ("/?c=__CLICK_ID__", &["__CLICK_ID__"], false),
            ("/?c=<click_id>", &["<click_id>"], false),
            ("/?c=#click_id#", &["#click_id#"], false),
            ("/?c=@click_id@", &["@click_id@"], false),
            ("/?c=$click_id&x=1", &["$click_id"], false),
            ("/?c=:click_id", &[":click_id"], false),
            ("/:clickId/p", &[":clickId"], false),
            ("/?c={click_id", &["{click_id"], false),
            ("/?c={click_id&x={sub}", &["{click_id"], true),
        ] {
            let expected = texts.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(mistakes(rest), Some((expected, loses_click_id)), "{rest}");
        }
        let found = macro_mistakes("https://shop.example/?c={CLICKID}").unwrap();
        assert_eq!(found.unfilled, [("{CLICKID}".to_owned(), "{click_id}".to_owned())]);
    }

    #[test]
    fn warns_if_the_shop_gets_no_click_id() {
        let warning = |rest: &str| {
            let found = macro_mistakes(&format!("https://shop.example{rest}")).unwrap();
            assert!(!found.loses_click_id, "{rest}");
            (found.no_click_id.clone(), found.to_string())
        };
        for (rest, macros) in [
            ("/?s={sub}", &["{sub}"][..]),
            ("/?c={transaction_id}&u={customer_id}", &["{transaction_id}", "{customer_id}"]),
            ("/{cid}", &["{cid}"]),
            ("/?c={aff_click_id}", &["{aff_click_id}"]),
            ("/?p={program_id}", &["{program_id}"]),
            ("/#{sub}", &["{sub}"]),
        ] {
            let (reason, text) = warning(rest);
            let macros = macros.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(reason, Some(NoClickId::OtherMacros(macros)), "{rest}");
            assert!(text.starts_with("the shop gets no click id"), "{text}");
        }
        for rest in ["/?c=#{click_id}", "/p#{click_id}", "/p#/c={click_id}&s={sub}"] {
            assert_eq!(warning(rest).0, Some(NoClickId::InFragment), "{rest}");
        }
    }

    #[test]
    fn accepts_our_macros_and_parameters_of_the_request() {
        for rest in [
            "",
            "/?c={click_id}&p={program_id}&u={customer_id}&i={impression_id}",
            "/{sub}?click={click_id}&gclid={gclid}&x={x[y]}&u={customerId}",
            "/?a[]=1&b=%20%7Bx%7D&c={&d={}&e={a/b}",
            "/?x=[x]&y=%%X%%&z=${x}&c={click_id}",
            "/?data[click_id]={click_id}",
            "/p?c={click_id}#{click_id}",
            "/?c={click_id}#{sub}",
            "/a:b/$c?x=:1&y=@a@&z=__B__",
        ] {
            assert_eq!(mistakes(rest), None, "{rest}");
        }
        assert_eq!(macro_mistakes("not a URL"), None);
    }
}

//! `[admin]`: where operators connect, and who of them may change something.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Checked, Section, refuse};
use super::services::is_name;
use super::show::absolute;
use super::value::{quote, socket_address, string};
use super::{Admin, AdminListen, AdminToken, TokenSource};

/// What the system has room for in the address of a unix socket, in bytes, without the final zero.
const SOCKET_PATH_MAX: usize = 107;

const TOKENS_MAX: usize = 100;

/// The longest name of an environment variable, in bytes.
const VARIABLE_MAX: usize = 128;

pub(super) fn admin(
    mut section: Section<'_>,
    defaults: Option<&Admin>,
    folder: &Path,
) -> Option<Admin> {
    let listen =
        section.read("listen", defaults.map(|d| d.listen.clone()), |value| listen(value, folder));
    let tokens = tokens(&section.section("tokens"), folder);
    section.finish();
    Some(Admin { listen: listen?, tokens: tokens? })
}

fn listen(value: &Spanned<DeValue<'_>>, folder: &Path) -> Checked<AdminListen> {
    let text = string(value, "an IP address with a port, or a path", "127.0.0.1:8004")?;
    let Some(path) = text.strip_prefix("unix:") else {
        return socket_address(value).map(AdminListen::Tcp).map_err(|mut faults| {
            for help in faults.iter_mut().filter_map(|fault| fault.help.as_mut()) {
                help.push_str(", or, for a socket in a folder, \"unix:/run/orchestrator.sock\"");
            }
            faults
        });
    };
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return refuse(
            format!("is not the path of a socket: {}", quote(text)),
            "write it like \"unix:/run/orchestrator.sock\"",
        );
    }
    // Whatever folder the process is in later, the socket is removed where it was made.
    let path = absolute(&folder.join(path));
    match path.as_os_str().as_bytes().len() {
        ..=SOCKET_PATH_MAX => Ok(AdminListen::Unix(path)),
        length => refuse(
            format!("is too long for the path of a socket: {}", quote(text)),
            format!("{SOCKET_PATH_MAX} bytes are allowed; as an absolute path it has {length}"),
        ),
    }
}

/// All tokens in the order of the file; none of them has a default.
fn tokens(section: &Section<'_>, folder: &Path) -> Option<Vec<AdminToken>> {
    let entries = section.entries();
    if entries.len() > TOKENS_MAX {
        section.problems.add(
            section.span(),
            format!("{} tokens are configured", entries.len()),
            None,
            Some(format!("at most {TOKENS_MAX} are allowed")),
        );
        return None;
    }
    let mut tokens = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let inner = section.inner(name.get_ref(), Some(value));
        let name_is_fine = is_name(name.get_ref());
        if !name_is_fine {
            section.problems.add(
                name.span(),
                format!("`{}` is not a token's name", name.get_ref().escape_debug()),
                None,
                Some("a name has 1 to 64 letters, digits, `_` and `-`".to_owned()),
            );
        }
        if inner.is_given()
            && let Some(source) = token_source(inner, folder)
            && name_is_fine
        {
            tokens.push(AdminToken { name: name.get_ref().to_string(), source });
        }
    }
    Some(tokens)
}

fn token_source(mut section: Section<'_>, folder: &Path) -> Option<TokenSource> {
    let file = section.read("file", Some(None), |value| token_file(value, folder).map(Some));
    let env = section.read("env", Some(None), |value| variable(value).map(Some));
    let wrong = match (section.has("file"), section.has("env")) {
        (true, true) => Some(("has both `file` and `env`", "leave one of them out")),
        (false, false) => Some(("has neither `file` nor `env`", "add `file = \"./token\"`")),
        _ => None,
    };
    if let Some((what, help)) = wrong {
        let message = format!("`{}` {what}", section.path());
        section.problems.add(section.span(), message, None, Some(help.to_owned()));
    }
    section.finish();
    match (file?, env?) {
        (Some(path), None) => Some(TokenSource::File(path)),
        (None, Some(name)) => Some(TokenSource::Env(name)),
        _ => None,
    }
}

fn token_file(value: &Spanned<DeValue<'_>>, folder: &Path) -> Checked<PathBuf> {
    let text = string(value, "a path", "./token")?;
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return refuse(
            format!("is not the path of a file: {}", quote(text)),
            "write it like \"./token\"; the first line of the file is the token",
        );
    }
    Ok(folder.join(text))
}

fn variable(value: &Spanned<DeValue<'_>>) -> Checked<String> {
    let text = string(value, "the name of a variable", "ORCHESTRATOR_TOKEN")?;
    let is_name = (1..=VARIABLE_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit());
    match is_name {
        true => Ok(text.to_owned()),
        false => refuse(
            format!("is not the name of an environment variable: {}", quote(text)),
            format!("a name has 1 to {VARIABLE_MAX} letters, digits and `_`, no digit in front"),
        ),
    }
}

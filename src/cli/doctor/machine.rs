//! What serving needs of the machine: a folder, disk space, ports.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::check::Check;
use crate::cli::{format, health};
use crate::config::{Config, DatabaseUrl, SqliteLocation};
use crate::services::{ADMIN_TOKEN_FILE, KEY_FILE};

/// Less free space than this is a warning.
const SPACE_WARNING: u64 = 1 << 30;
/// Less free space than this is a failure.
const SPACE_FAILURE: u64 = 64 << 20;

/// The data folder can be written to, and only its owner can read it and the database.
pub(super) fn folder(config: &Config) -> Check {
    const NAME: &str = "data folder";
    let path = config.data_dir.as_path();
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Check::fail(NAME, format!("{shown} is not a folder; name another")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Check::ok(NAME, format!("{shown} does not exist; the first start makes it"));
        }
        Err(error) => return Check::fail(NAME, format!("{shown}: {error}")),
    }
    if let Err(error) = access(path, Access::WRITE_OK | Access::EXEC_OK) {
        return Check::fail(
            NAME,
            format!("{shown} cannot be written to ({error}); give it to the user that serves"),
        );
    }
    let mut secrets = vec![path.join(ADMIN_TOKEN_FILE), path.join(KEY_FILE)];
    if let DatabaseUrl::Sqlite(SqliteLocation::File(database)) = &config.database.url {
        secrets.push(database.clone());
    }
    for secret in secrets {
        let mode = std::fs::metadata(&secret).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            let secret = secret.display();
            return Check::fail(
                NAME,
                format!("others can open {secret}; run `chmod 600 {secret}`"),
            );
        }
    }
    Check::ok(NAME, format!("{shown} can be written to, and its secrets are private"))
}

/// The disk of the data folder has room.
pub(super) fn space(path: &Path) -> Check {
    const NAME: &str = "disk space";
    // A folder that does not exist yet will be on the disk of its nearest ancestor.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let Some(Ok(disk)) = absolute.ancestors().find(|folder| folder.exists()).map(statvfs) else {
        return Check::warn(NAME, format!("the free space of {} cannot be read", path.display()));
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let detail = format!("{} free", format::bytes(free));
    let advice = "make room: on a full disk every claim is refused";
    if free < SPACE_FAILURE {
        Check::fail(NAME, format!("{detail}; {advice}"))
    } else if free < SPACE_WARNING {
        Check::warn(NAME, format!("{detail}; {advice}"))
    } else {
        Check::ok(NAME, detail)
    }
}

/// The port is free, or a running onceguard uses it.
pub(super) fn port(name: &'static str, address: SocketAddr, config: &Config) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match health::ask(config) {
            Ok(_) => Check::ok(name, format!("{address} is in use, and onceguard is running")),
            Err(_) => Check::fail(
                name,
                format!("{address} is used by another program; stop it, or configure another port"),
            ),
        },
        Err(error) => Check::fail(
            name,
            format!("cannot listen on {address} ({error}); configure an address of this machine"),
        ),
    }
}

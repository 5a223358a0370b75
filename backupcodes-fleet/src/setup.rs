//! Users, roles and permissions in etcd. Each step may be done again.

use std::time::Duration;

use prost::Message;
use tonic::Code;

use crate::Failure;
use crate::authority::ADMIN;
use crate::etcd::messages::{
    GrantPermission, GrantRole, Named, Names, NoFields, Permission, PermissionKind, UserOptions,
};
use crate::etcd::{Etcd, EtcdError, at};
use crate::keys::{Keys, Prefix};

/// The user of etcd who may do everything: etcd wants one of this name.
const ROOT: &str = "root";
/// The role of administrators.
const ADMINS: &str = "backupcodes-admins";
/// The role of hosts.
const HOSTS: &str = "backupcodes-hosts";
/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the roles, the user of the administrators' certificates, and root, and turns authentication on. Returns what was done, as
/// all of these do.
pub(crate) async fn init(etcd: &Etcd, prefix: &Prefix) -> Result<Vec<String>, Failure> {
    let all = [(prefix.all(), PermissionKind::ReadWrite)];
    // A host reads sets. It writes what a spend changes, and no more.
    let of_host = [
        (prefix.sets(), PermissionKind::Read),
        (prefix.restored(), PermissionKind::Read),
        (prefix.slots(), PermissionKind::ReadWrite),
        (prefix.due(), PermissionKind::ReadWrite),
    ];
    make_role(etcd, ROOT, []).await?;
    make_role(etcd, ADMINS, all).await?;
    make_role(etcd, HOSTS, of_host).await?;
    make_user(etcd, ROOT, ROOT).await?;
    make_user(etcd, ADMIN, ADMINS).await?;
    call::<NoFields>(etcd, "/etcdserverpb.Auth/AuthEnable", &NoFields {}).await?;
    Ok(vec![format!("etcd tells its users apart; {ADMIN} may replace sets")])
}

/// Lets a host in, by the common name of its certificate.
pub(crate) async fn add_host(etcd: &Etcd, name: &str) -> Result<Vec<String>, Failure> {
    is_host_or_nobody(etcd, name).await?;
    make_user(etcd, name, HOSTS).await?;
    Ok(vec![format!("{name} may read sets and spend codes")])
}

/// Keeps a host out, at once.
pub(crate) async fn remove_host(etcd: &Etcd, name: &str) -> Result<Vec<String>, Failure> {
    is_host_or_nobody(etcd, name).await?;
    call::<NoFields>(etcd, "/etcdserverpb.Auth/UserDelete", &named(name, None)).await?;
    Ok(vec![format!("{name} is out; never give its name to another host")])
}

/// The hosts that were let in.
pub(crate) async fn hosts(etcd: &Etcd) -> Result<Vec<String>, Failure> {
    let Names { mut names } = call(etcd, "/etcdserverpb.Auth/UserList", &NoFields {}).await?;
    let mut hosts = Vec::new();
    names.sort_unstable();
    for name in names {
        if roles(etcd, &name).await?.iter().any(|role| role == HOSTS) {
            hosts.push(name);
        }
    }
    Ok(hosts)
}

/// An administrator's mistake must not give another user of etcd the rights of a host, or remove it.
async fn is_host_or_nobody(etcd: &Etcd, name: &str) -> Result<(), Failure> {
    match roles(etcd, name).await {
        Ok(roles) if roles.iter().any(|role| role != HOSTS) => Err(Failure::NoHost(name.into())),
        Err(EtcdError::Refused { code: Code::FailedPrecondition, .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn roles(etcd: &Etcd, user: &str) -> Result<Vec<String>, EtcdError> {
    let Names { names } = call(etcd, "/etcdserverpb.Auth/UserGet", &named(user, None)).await?;
    Ok(names)
}

async fn make_role<const N: usize>(
    etcd: &Etcd,
    role: &str,
    permissions: [(Keys, PermissionKind); N],
) -> Result<(), EtcdError> {
    or_exists(call::<NoFields>(etcd, "/etcdserverpb.Auth/RoleAdd", &named(role, None)).await)?;
    for (keys, kind) in permissions {
        let (key, range_end) = keys.bounds();
        let permission = Some(Permission { kind: kind.into(), key, range_end });
        let grant = GrantPermission { role: role.into(), permission };
        call::<NoFields>(etcd, "/etcdserverpb.Auth/RoleGrantPermission", &grant).await?;
    }
    Ok(())
}

async fn make_user(etcd: &Etcd, user: &str, role: &str) -> Result<(), EtcdError> {
    let without_password = Some(UserOptions { no_password: true });
    or_exists(call::<NoFields>(etcd, "/etcdserverpb.Auth/UserAdd", &named(user, without_password)).await)?;
    let grant = GrantRole { user: user.into(), role: role.into() };
    call::<NoFields>(etcd, "/etcdserverpb.Auth/UserGrantRole", &grant).await.map(drop)
}

fn named(name: &str, options: Option<UserOptions>) -> Named {
    Named { name: name.into(), options }
}

async fn call<R: Message + Default + 'static>(
    etcd: &Etcd,
    method: &'static str,
    request: &(impl Message + Clone + 'static),
) -> Result<R, EtcdError> {
    etcd.call(method, request, at(PATIENCE)).await
}

/// Done before is done.
fn or_exists(made: Result<NoFields, EtcdError>) -> Result<(), EtcdError> {
    match made {
        Err(EtcdError::Refused { code: Code::FailedPrecondition, message, .. })
            if message.contains("already exists") =>
        {
            Ok(())
        }
        made => made.map(drop),
    }
}

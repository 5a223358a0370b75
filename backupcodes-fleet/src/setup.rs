//! Users, roles and permissions in etcd. Each step may be done again.

use std::time::Duration;

use prost::Message;
use tonic::Code;

use crate::etcd::messages::{
    GrantPermission, GrantRole, Named, NoFields, Permission, PermissionKind, UserOptions,
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

/// Makes the roles, the user of the administrators' certificates, and root, and turns authentication on.
pub(crate) async fn init(etcd: &Etcd, prefix: &Prefix, admin: &str) -> Result<(), EtcdError> {
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
    make_user(etcd, admin, ADMINS).await?;
    call(etcd, "/etcdserverpb.Auth/AuthEnable", &NoFields {}).await
}

/// Lets a host in, by the common name of its certificate.
pub(crate) async fn add_host(etcd: &Etcd, name: &str) -> Result<(), EtcdError> {
    make_user(etcd, name, HOSTS).await
}

/// Keeps a host out, at once.
pub(crate) async fn remove_host(etcd: &Etcd, name: &str) -> Result<(), EtcdError> {
    call(etcd, "/etcdserverpb.Auth/UserDelete", &named(name, None)).await
}

async fn make_role<const N: usize>(
    etcd: &Etcd,
    role: &str,
    permissions: [(Keys, PermissionKind); N],
) -> Result<(), EtcdError> {
    or_exists(call(etcd, "/etcdserverpb.Auth/RoleAdd", &named(role, None)).await)?;
    for (keys, kind) in permissions {
        let (key, range_end) = keys.bounds();
        let permission = Some(Permission { kind: kind.into(), key, range_end });
        let grant = GrantPermission { role: role.into(), permission };
        call(etcd, "/etcdserverpb.Auth/RoleGrantPermission", &grant).await?;
    }
    Ok(())
}

async fn make_user(etcd: &Etcd, user: &str, role: &str) -> Result<(), EtcdError> {
    let without_password = Some(UserOptions { no_password: true });
    or_exists(call(etcd, "/etcdserverpb.Auth/UserAdd", &named(user, without_password)).await)?;
    let grant = GrantRole { user: user.into(), role: role.into() };
    call(etcd, "/etcdserverpb.Auth/UserGrantRole", &grant).await
}

fn named(name: &str, options: Option<UserOptions>) -> Named {
    Named { name: name.into(), options }
}

async fn call(
    etcd: &Etcd,
    method: &'static str,
    request: &(impl Message + Clone + 'static),
) -> Result<(), EtcdError> {
    etcd.call::<_, NoFields>(method, request, at(PATIENCE)).await.map(drop)
}

/// Done before is done.
fn or_exists(made: Result<(), EtcdError>) -> Result<(), EtcdError> {
    match made {
        Err(EtcdError::Refused { code: Code::FailedPrecondition, message, .. })
            if message.contains("already exists") =>
        {
            Ok(())
        }
        made => made,
    }
}

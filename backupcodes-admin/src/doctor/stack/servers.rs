//! Programs that log in with one name and one password, by the names of their PAM services.

/// Whether a program answers all that is asked with the one password that it was given.
pub(super) fn answers_once(service: &str) -> bool {
    SERVERS.contains(&service)
}

/// Their own names for it, or those that their documentation or their distributions give.
const SERVERS: [&str; 64] = [
    // Files
    "afpd",
    "ftp",
    "ftpd",
    "netatalk",
    "proftpd",
    "pure-ftpd",
    "samba",
    "vsftpd",
    // Mail; saslauthd takes the name of the protocol.
    "courier",
    "cyrus",
    "dovecot",
    "esmtp",
    "exim",
    "exim4",
    "imap",
    "imaps",
    "lmtp",
    "managesieve",
    "nntp",
    "pop",
    "pop3",
    "pop3s",
    "saslauthd",
    "sieve",
    "smtp",
    "smtp.postfix",
    "smtp.sendmail",
    "smtpd",
    "submission",
    // Networks
    "accel-ppp",
    "freeradius",
    "openvpn",
    "ppp",
    "racoon",
    "radiusd",
    "squid",
    "squid3",
    "tac_plus",
    "xl2tpd",
    // The web
    "apache",
    "apache2",
    "caldav",
    "gitea",
    "httpd",
    "jupyterhub",
    "nginx",
    "proxmox-backup-auth",
    "proxmox-ve-auth",
    "radicale",
    "rstudio",
    "usermin",
    "webmin",
    // Printing, databases, chat
    "cups",
    "ejabberd",
    "mariadb",
    "mysql",
    "postgresql",
    // Desktops
    "lxdm",
    "ly",
    "sddm",
    "vnc",
    "tigervnc",
    "x2go",
    "xrdp-sesman",
];

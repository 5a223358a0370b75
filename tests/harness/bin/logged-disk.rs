//! `logged-disk IMAGE LOG FILE`: FILE becomes a disk that keeps in IMAGE what is written to it, and notes each write and
//! flush in LOG before it says that it is done. It ends when FILE is unmounted.
//!
//! A process of its own: one that used the file systems on this disk could wait for itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, UNIX_EPOCH};

use backupcodes_tests::logged_disk::Recorder;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, log, file] = arguments.as_slice() else {
        eprintln!("usage: logged-disk IMAGE LOG FILE");
        std::process::exit(2);
    };
    let image = File::options().read(true).write(true).open(image)?;
    let disk = Disk { size: image.metadata()?.len(), image, recorder: Recorder::create(log)? };
    // One thread: what is written and flushed has one order.
    fuser::mount(disk, file, &Config::default())
}

/// A file system that is one file, where it is mounted.
struct Disk {
    image: File,
    size: u64,
    recorder: Recorder,
}

impl Filesystem for Disk {
    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attributes = FileAttr {
            ino: INodeNo::ROOT,
            size: self.size,
            blocks: self.size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        reply.attr(&Duration::MAX, &attributes);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The kernel keeps nothing of the file, so that each write comes here when it is made.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        start: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.size.saturating_sub(start);
        let mut data = vec![0; usize::try_from(left.min(size.into())).unwrap_or_default()];
        match self.image.read_exact_at(&mut data, start) {
            Ok(()) => reply.data(&data),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        start: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let done = self.image.write_all_at(data, start).and_then(|()| self.recorder.write(start, data));
        match (done, u32::try_from(data.len())) {
            (Ok(()), Ok(length)) => reply.written(length),
            (Err(error), _) => reply.error(error.into()),
            (_, Err(_)) => reply.error(Errno::EINVAL),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.recorder.flush() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }
}

# Runs in new namespaces, as their root and as their process 1: builds a root of its own, enters it, runs a command.
# Arguments: MiB of the writable memory, read-only paths..., --, the command.
set -eu
mount -t tmpfs -o "size=$1m,mode=755,nosuid,nodev" none /mnt
cd /mnt
shift
while [ "$1" != -- ]; do
  if [ -L "$1" ]; then
    ln -s "$(readlink "$1")" ".$1"
  elif [ ! -e ".$1" ]; then # a path below one that is there already needs nothing
    if [ -d "$1" ]; then mkdir -p ".$1"; else mkdir -p ".${1%/*}" && : >".$1"; fi
    mount --rbind "$1" ".$1"
    mount -o remount,bind,ro,nosuid,nodev ".$1"
  fi
  shift
done
shift
mkdir dev old proc
mkdir -p tmp && chmod 1777 tmp
for device in null zero urandom; do
  : >"dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mount --rbind /proc proc
pivot_root . old
cd /tmp
umount -l /old # finds it in /proc, which goes last
umount -l /proc
# Not exec: as process 1 this shell cannot be killed or traced by what it runs, and its own end ends all of it.
"$@"

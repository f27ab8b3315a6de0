# Told on standard input what was started; when that ends, because the demo did, however it did, ends the rest and
# removes the folder. In a process group of its own, so that control-C does not reach it.
trap '' INT TERM HUP QUIT
pids=" "
while read -r what pid; do
    case $what in
    start) pids="$pids$pid " ;;
    end) pids="${pids%% "$pid" *} ${pids##* "$pid" }" ;;
    esac
done
[ -z "${pids## }" ] || kill -KILL $pids 2>/dev/null
rm -rf -- "$1"

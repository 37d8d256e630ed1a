-- Asks Keydesk about a request, and answers it here if Keydesk refuses it. For HAProxy 2.6 and later.
--
--     http-request lua.keydesk SCOPES        the scopes that are required, with commas between, or `any`
--
-- HAProxy goes on with a request when an action fails. So this one sets txn.keydesk to `allowed` as its last deed, and
-- the configuration must refuse whatever has not got it.

local ADDRESS = "http://127.0.0.1:8080/authz/forwarded"
local TIMEOUT = 1000 -- milliseconds; HAProxy asks four times before it gives up
local SENT = { "x-api-key", "authorization" }
local IDENTITY = { "x-key-id", "x-key-name", "x-key-owner", "x-key-scopes", "x-key-environment" }
-- These headers of a refusal speak of the connection to Keydesk; HAProxy writes its own.
local NOT_RELAYED = { ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true }

-- Returns the values of a header as a list from 1 on; HAProxy counts from 0.
local function values(headers, name)
    local found = {}
    local held = headers and headers[name]
    for at = 0, held and #held or -1 do
        if held[at] then
            found[#found + 1] = held[at]
        end
    end
    return found
end

local function ask(txn, scopes)
    local received = txn.http:req_get_headers()
    local headers = { ["x-forwarded-for"] = { txn.sf:src() } }
    for _, name in ipairs(SENT) do
        local held = values(received, name)
        if #held > 0 then
            headers[name] = held
        end
    end
    local url = ADDRESS
    if scopes ~= "any" then
        url = url .. "?scope=" .. scopes
    end
    return core.httpclient():get({ url = url, headers = headers, timeout = TIMEOUT })
end

local function unavailable(txn)
    local reply = txn:reply({ status = 503, reason = "Service Unavailable" })
    reply:add_header("content-type", "application/problem+json")
    reply:add_header("cache-control", "no-store")
    reply:add_header("retry-after", "5")
    if txn.sf:method() ~= "HEAD" then
        reply:set_body('{"type": "about:blank", "title": "Service Unavailable", "status": 503}\n')
    end
    txn:done(reply)
end

core.register_action("keydesk", { "http-req" }, function(txn, scopes)
    local done, said = pcall(ask, txn, scopes)
    -- HAProxy's client makes a 503 or 504 of its own where nobody answers.
    if not done or not said.status or said.status < 200 or said.status >= 500 then
        return unavailable(txn)
    end
    if said.status ~= 200 then
        local reply = txn:reply({ status = said.status, reason = said.reason })
        for name in pairs(said.headers or {}) do
            for _, value in ipairs(values(said.headers, name)) do
                if not NOT_RELAYED[name] then
                    reply:add_header(name, value)
                end
            end
        end
        if txn.sf:method() ~= "HEAD" then
            reply:set_body(said.body or "")
        end
        return txn:done(reply)
    end
    for _, name in ipairs(IDENTITY) do
        txn.http:req_set_header(name, values(said.headers, name)[1] or "")
    end
    txn:set_var("txn.keydesk", "allowed")
end, 1)

<?php

// `php -S` with this: an application's POST /broadcasting/auth. Who asks says so in `X-User`.

require __DIR__.'/broadcaster.php';

use Illuminate\Broadcasting\Broadcasters\Broadcaster;
use Illuminate\Http\Request;
use Symfony\Component\HttpKernel\Exception\AccessDeniedHttpException;

header('Access-Control-Allow-Origin: *');
header('Access-Control-Allow-Headers: X-User, Content-Type, X-Requested-With');
if ($_SERVER['REQUEST_METHOD'] === 'OPTIONS') {
    return;
}

/** The user of a session. */
class User
{
    public function __construct(private string $name)
    {
    }

    public function getAuthIdentifier()
    {
        return $this->name;
    }

    public function mayOpen(): bool
    {
        return $this->name !== 'mallory';
    }
}

$broadcaster = broadcaster();
$broadcaster->channel('orders.{id}', fn ($user) => $user->mayOpen());
$broadcaster->channel('room.{id}', fn ($user) => ['name' => $user->getAuthIdentifier()]);

$request = Request::capture();
$request->setUserResolver(fn () => new User($request->header('X-User')));
try {
    header('Content-Type: application/json');
    echo json_encode($broadcaster->auth($request));
} catch (AccessDeniedHttpException) {
    http_response_code(403);
}
